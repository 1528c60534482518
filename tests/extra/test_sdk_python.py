"""The PyPI package `pluggy_sdk` drives the simulator: strict models, no error, right counts."""
# The generated client takes ids as text and fields by their Python names; pydantic sees to both at
# run time, which mypy cannot know.
# mypy: disable-error-code="arg-type, call-arg"

import inspect
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pluggy_sdk
import pytest
from pluggy_sdk.exceptions import ApiException, ForbiddenException, NotFoundException

from tests.extra.sdk_operations import covered_by, operations
from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import KEYS

ROWS = 2_600
pytestmark = pytest.mark.timeout(600)
DATA_APIS = (
    pluggy_sdk.AccountApi,
    pluggy_sdk.AuthApi,
    pluggy_sdk.BillApi,
    pluggy_sdk.CategoryApi,
    pluggy_sdk.ConnectorApi,
    pluggy_sdk.ConsentApi,
    pluggy_sdk.IdentityApi,
    pluggy_sdk.InvestmentApi,
    pluggy_sdk.ItemsApi,
    pluggy_sdk.LoanApi,
    pluggy_sdk.MerchantApi,
    pluggy_sdk.SCRApi,
    pluggy_sdk.TransactionApi,
    pluggy_sdk.WebhookApi,
)


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    # This SDK reads a Webhook from nothing but 201.
    with SimulatorProcess(rate_limit=0, seed=21, created_webhook_status=201) as running:
        yield running


@pytest.fixture(scope="module")
def api(simulator: SimulatorProcess) -> pluggy_sdk.ApiClient:
    configuration = pluggy_sdk.Configuration(host=simulator.url, retries=False)
    client = pluggy_sdk.ApiClient(configuration)
    request = pluggy_sdk.AuthRequest(client_id=KEYS["clientId"], client_secret=KEYS["clientSecret"])
    configuration.api_key["default"] = pluggy_sdk.AuthApi(client).auth_create(request).api_key
    return client


@pytest.fixture(scope="module", params=[0, 600], ids=["direct", "open finance"])
def item_id(simulator: SimulatorProcess, request: pytest.FixtureRequest) -> str:
    body = {"transactions": ROWS, "accounts": 3, "connectorId": request.param}
    item = simulator.post("/_simulator/items", body)
    path = f"/_simulator/items/{item['id']}/collect"
    simulator.post(path, {"created": 9, "updated": 9, "deleted": 9, "restated": 9, "partial": True})
    return str(item["id"])


@pytest.fixture
def truth(simulator: SimulatorProcess, item_id: str) -> Any:
    return simulator.get(f"/_simulator/truth/{item_id}")


def ids(rows: list[Any]) -> list[str]:
    return [row.id for row in rows]


def true_ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def found(answer: Any) -> list[Any]:
    """The rows of an envelope, which the SDK declares optional."""
    assert answer.results is not None
    return list(answer.results)


def walk(api: pluggy_sdk.ApiClient, account_id: str) -> list[pluggy_sdk.Transaction]:
    """This SDK never follows `next` by itself."""
    transactions = pluggy_sdk.TransactionApi(api)
    page = transactions.transactions_list_by_cursor(account_id)
    rows = list(page.results)
    while page.next is not None:
        after = parse_qs(page.next.removeprefix("?"))["after"][0]
        page = transactions.transactions_list_by_cursor(account_id, after=after)
        rows += page.results
    return rows


def test_the_table_in_docs_lists_every_operation_of_the_data_side() -> None:
    suffixes = ("_with_http_info", "_without_preload_content")
    known = {
        name
        for api in DATA_APIS
        for name, _ in inspect.getmembers(api, inspect.isfunction)
        if not name.startswith("_") and not name.endswith(suffixes)
    }
    assert {row.name for row in operations()} == known


def test_the_item_and_its_connector_are_read(
    api: pluggy_sdk.ApiClient, item_id: str, truth: Any
) -> None:
    item = pluggy_sdk.ItemsApi(api).items_retrieve(item_id)
    assert isinstance(item, pluggy_sdk.Item)
    assert (item.status, item.execution_status) == ("UPDATED", "PARTIAL_SUCCESS")
    assert item.status_detail is not None
    assert item.status_detail.loans is not None
    assert item.status_detail.loans.is_updated is False
    connectors = pluggy_sdk.ConnectorApi(api)
    listed = connectors.connectors_list(sandbox=True)
    assert {c.id for c in found(listed)} >= {0, 600}
    retrieved = connectors.connector_retrieve(truth["items"][0]["connector"]["id"])
    assert item.connector == retrieved


def test_all_transactions_are_read_over_all_pages(
    api: pluggy_sdk.ApiClient, item_id: str, truth: Any
) -> None:
    accounts = pluggy_sdk.AccountApi(api)
    listed = accounts.accounts_list(item_id)
    assert ids(found(listed)) == true_ids(truth["accounts"])
    assert all(isinstance(account, pluggy_sdk.Account) for account in found(listed))
    assert accounts.accounts_list(item_id, type="CREDIT").total == 1
    rows = [row for account in found(listed) for row in walk(api, account.id)]
    assert len(rows) == len(truth["transactions"]) == ROWS
    assert all(isinstance(row, pluggy_sdk.Transaction) for row in rows)
    assert ids(rows) == true_ids(truth["transactions"])
    assert accounts.accounts_retrieve(found(listed)[0].id) == found(listed)[0]


def test_a_balance_is_asked_for_in_real_time(
    api: pluggy_sdk.ApiClient, simulator: SimulatorProcess
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 2, "connectorId": 600})
    accounts = pluggy_sdk.AccountApi(api)
    for account in found(accounts.accounts_list(item["id"])):
        asked = accounts.account_balance_get(account.id)
        assert asked.balance == accounts.accounts_retrieve(account.id).balance != account.balance


def test_transactions_are_filtered_by_ids_dates_and_creation(
    api: pluggy_sdk.ApiClient, item_id: str, truth: Any
) -> None:
    transactions = pluggy_sdk.TransactionApi(api)
    account_id = truth["accounts"][0]["id"]
    rows = [row for row in truth["transactions"] if row["accountId"] == account_id]
    wanted = true_ids(rows[:40])
    asked = transactions.transactions_list_by_cursor(account_id, ids=wanted)
    assert ids(asked.results) == wanted
    assert asked.next is None
    latest = max(row["createdAt"] for row in rows)
    fresh = transactions.transactions_list_by_cursor(account_id, created_at_from=latest)
    assert set(ids(fresh.results)) == {r["id"] for r in rows if r["createdAt"] == latest}
    # This SDK writes bare dates as midnights.
    newest, oldest = rows[30]["date"][:10], rows[200]["date"][:10]
    within = transactions.transactions_list_by_cursor(account_id, date_from=oldest, date_to=newest)
    bounds = (f"{oldest}T00:00:00.000Z", f"{newest}T00:00:00.000Z")
    wanted_rows = [row["id"] for row in rows if bounds[0] <= row["date"] <= bounds[1]]
    assert ids(within.results) == wanted_rows
    one = transactions.transactions_retrieve(wanted[0])
    assert one == asked.results[0]
    change = pluggy_sdk.UpdateTransaction(category_id="13000000")
    assert transactions.transactions_update(wanted[0], change).category_id == "13000000"


def test_other_products_are_read(api: pluggy_sdk.ApiClient, item_id: str, truth: Any) -> None:
    investments = pluggy_sdk.InvestmentApi(api)
    listed = investments.investments_list(item_id)
    assert ids(found(listed)) == true_ids(truth["investments"])
    assert investments.investments_retrieve(found(listed)[0].id) == found(listed)[0]
    movements = [
        row
        for investment in found(listed)
        for row in investments.investment_transactions_list(investment.id).results
    ]
    assert ids(movements) == true_ids(truth["investment_transactions"])
    loans = pluggy_sdk.LoanApi(api)
    owed = loans.loans_list(item_id)
    assert ids(found(owed)) == true_ids(truth["loans"])
    assert loans.loans_retrieve(found(owed)[0].id) == found(owed)[0]
    identities = pluggy_sdk.IdentityApi(api)
    identity = identities.identity_find_by_item(item_id)
    assert identity.id == truth["identities"][0]["id"]
    assert identities.identity_retrieve(identity.id) == identity
    consents = pluggy_sdk.ConsentApi(api)
    consent = consents.consents_list(item_id).results[0]
    assert consents.consent_retrieve(consent.id) == consent
    card = next(a["id"] for a in truth["accounts"] if a["type"] == "CREDIT")
    bills = pluggy_sdk.BillApi(api)
    billed = bills.bills_list(card)
    assert set(ids(found(billed))) == set(true_ids(truth["bills"]))
    assert bills.bills_retrieve(found(billed)[0].id) == found(billed)[0]


def test_categories_are_read(api: pluggy_sdk.ApiClient) -> None:
    categories = pluggy_sdk.CategoryApi(api)
    rows = categories.categories_list().results
    assert len(rows) > 100
    assert categories.categories_retrieve(rows[3].id) == rows[3]


def test_webhooks_are_created_read_changed_and_deleted(api: pluggy_sdk.ApiClient) -> None:
    webhooks = pluggy_sdk.WebhookApi(api)
    wanted = pluggy_sdk.CreateWebhook(
        event=pluggy_sdk.WebhookEventType("all"),
        url="https://example.com/hooks",
        headers={"X-Webhook-Secret": "s"},
    )
    made = webhooks.webhooks_create(wanted)
    assert isinstance(made, pluggy_sdk.Webhook)
    assert ids(webhooks.webhooks_list().results) == [made.id]
    assert webhooks.webhooks_retrieve(made.id) == made
    change = pluggy_sdk.UpdateWebhook(url="https://example.com/other", enabled=True)
    assert webhooks.webhooks_update(made.id, change).url == "https://example.com/other"
    assert webhooks.webhooks_delete(made.id).count == 1


def test_an_item_is_created_answered_updated_stopped_listed_and_deleted(
    simulator: SimulatorProcess, api: pluggy_sdk.ApiClient
) -> None:
    items = pluggy_sdk.ItemsApi(api)
    parameters = {"user": "user-ok", "password": "password-ok"}
    wanted = pluggy_sdk.CreateItem(
        connector_id=1, parameters=pluggy_sdk.CreateItemParameters(parameters)
    )
    made = items.items_create(wanted)
    assert made.execution_status == "CREATED"
    simulator.post("/_simulator/clock", {"advance": 5})
    assert items.items_retrieve(made.id).parameter is not None
    assert items.items_send_mfa(made.id, {"token": "123456"}).status == "UPDATING"
    simulator.post("/_simulator/clock", {"advance": 60})
    assert items.items_retrieve(made.id).status == "UPDATED"
    updated = items.items_update(made.id, update_item=pluggy_sdk.UpdateItem(client_user_id="u-9"))
    assert updated.status == "UPDATING"
    assert items.items_resources(made.id, status="AVAILABLE").total == 0
    stopped = items.items_disable_autosync(made.id)
    assert stopped.next_auto_sync_at is None
    assert ids(items.items_list_by_cursor(client_user_id="u-9").results) == [made.id]
    token = pluggy_sdk.AuthApi(api).connect_token_create(
        connect_token_request=pluggy_sdk.ConnectTokenRequest(
            item_id=made.id, options=pluggy_sdk.ItemOptions(client_user_id="u-9")
        )
    )
    assert token.access_token
    assert items.items_delete(made.id).count == 1
    with pytest.raises(NotFoundException):
        items.items_retrieve(made.id)


def test_errors_become_the_sdks_own_exceptions(
    simulator: SimulatorProcess, api: pluggy_sdk.ApiClient, item_id: str
) -> None:
    with (
        pytest.warns(DeprecationWarning, match="GET /transactions"),
        pytest.raises(ApiException) as gone,
    ):
        pluggy_sdk.TransactionApi(api).transactions_list(item_id)
    assert gone.value.status == 410
    fault = {"match": "GET /items", "kind": "status", "status": 429, "retryAfter": 1}
    simulator.post("/_simulator/faults", fault)
    with pytest.raises(ApiException) as limited:
        pluggy_sdk.ItemsApi(api).items_retrieve(item_id)
    assert limited.value.status == 429
    stranger = pluggy_sdk.ApiClient(pluggy_sdk.Configuration(host=simulator.url, retries=False))
    with pytest.raises(ForbiddenException):
        pluggy_sdk.ItemsApi(stranger).items_retrieve(item_id)


def test_the_sdk_made_every_request_that_the_table_promises(simulator: SimulatorProcess) -> None:
    """Runs last: the log of requests tells what the tests above have driven."""
    assert covered_by("Python") <= simulator.get("/_simulator/requests")["endpoints"].keys()
