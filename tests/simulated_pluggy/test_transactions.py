"""The simulator: listings of transactions, their cursor, their filters, their data."""

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller

ROWS = 4_000


@pytest.fixture(scope="module")
def simulator(moment: str) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=0, seed=3, clock_start=moment) as running:
        yield running


@pytest.fixture(scope="module")
def caller(simulator: SimulatorProcess) -> Caller:
    return Caller(simulator)


@pytest.fixture(scope="module")
def item(simulator: SimulatorProcess) -> dict[str, Any]:
    body = {"transactions": ROWS, "connectorId": 601}
    return dict(simulator.post("/_simulator/items", body))


@pytest.fixture(scope="module")
def accounts(caller: Caller, item: dict[str, Any]) -> list[dict[str, Any]]:
    return list(caller.get(f"/accounts?itemId={item['id']}")["results"])


@pytest.fixture(scope="module")
def bank(accounts: list[dict[str, Any]]) -> str:
    return str(next(a["id"] for a in accounts if a["type"] == "BANK"))


@pytest.fixture(scope="module")
def card(accounts: list[dict[str, Any]]) -> str:
    return str(next(a["id"] for a in accounts if a["type"] == "CREDIT"))


@pytest.fixture(scope="module")
def bank_rows(caller: Caller, bank: str) -> list[dict[str, Any]]:
    return caller.walk(f"?accountId={bank}")


@pytest.fixture(scope="module")
def card_rows(caller: Caller, card: str) -> list[dict[str, Any]]:
    return caller.walk(f"?accountId={card}")


def test_an_item_has_exactly_the_transactions_that_were_ordered(
    bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    assert len(bank_rows) + len(card_rows) == ROWS
    assert len({row["id"] for row in bank_rows + card_rows}) == ROWS


def test_pages_hold_500_rows_and_lead_on_by_a_ready_query_string(caller: Caller, bank: str) -> None:
    page = caller.get(f"/v2/transactions?accountId={bank}")
    assert len(page["results"]) == 500
    assert page["next"].startswith("?accountId=")
    cursor = page["next"].split("after=")[1].replace("%3D", "=")
    last = page["results"][-1]
    assert base64.b64decode(cursor).decode() == f"{last['date']}|{last['id']}"


def test_rows_come_by_date_newest_first_then_by_id(bank_rows: list[dict[str, Any]]) -> None:
    newest_first = sorted(bank_rows, key=lambda row: row["id"])
    newest_first.sort(key=lambda row: row["date"], reverse=True)
    assert bank_rows == newest_first


def test_the_first_import_shares_one_creation_time(bank_rows: list[dict[str, Any]]) -> None:
    assert len({row["createdAt"] for row in bank_rows}) == 1


def test_date_filters_are_inclusive_and_next_repeats_them(
    caller: Caller, bank: str, bank_rows: list[dict[str, Any]]
) -> None:
    newest, oldest = bank_rows[400]["date"][:10], bank_rows[1500]["date"][:10]
    query = f"?accountId={bank}&dateFrom={oldest}&dateTo={newest}"
    page = caller.get(f"/v2/transactions{query}")
    assert page["next"].startswith(f"{query}&after=")
    wanted = [row for row in bank_rows if oldest <= row["date"][:10] <= newest]
    assert caller.walk(query) == wanted


def test_created_at_from_is_inclusive_to_the_millisecond(
    caller: Caller, bank: str, bank_rows: list[dict[str, Any]]
) -> None:
    created = bank_rows[0]["createdAt"]
    later = datetime.fromisoformat(created) + timedelta(milliseconds=1)
    assert len(caller.walk(f"?accountId={bank}&createdAtFrom={created}")) == len(bank_rows)
    text = later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert caller.walk(f"?accountId={bank}&createdAtFrom={text}") == []


@pytest.mark.parametrize("shape", ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f+0000"])
def test_times_are_read_as_the_sdks_write_them(
    caller: Caller, bank: str, bank_rows: list[dict[str, Any]], shape: str
) -> None:
    created = datetime.fromisoformat(bank_rows[0]["createdAt"])
    # The Node SDK does not encode the plus sign, the Python one does.
    for text in (created.strftime(shape), quote(created.strftime(shape))):
        page = caller.get(f"/v2/transactions?accountId={bank}&createdAtFrom={text}")
        assert len(page["results"]) == 500


def test_ids_are_read_comma_separated_and_repeated_and_unknown_ones_are_absent(
    caller: Caller, bank: str, bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    ids = [row["id"] for row in bank_rows[:3]]
    asked = [*ids, str(uuid4()), card_rows[0]["id"]]
    comma = caller.get(f"/v2/transactions?accountId={bank}&ids={','.join(asked)}")
    again = caller.get(f"/v2/transactions?accountId={bank}&" + "&".join(f"ids={i}" for i in asked))
    assert comma == again == {"results": bank_rows[:3], "next": None}


@pytest.mark.parametrize(("count", "status"), [(500, 200), (501, 400)])
def test_five_hundred_ids_are_the_most(caller: Caller, bank: str, count: int, status: int) -> None:
    ids = ",".join(str(uuid4()) for _ in range(count))
    answer = caller.call("GET", f"/v2/transactions?accountId={bank}&ids={ids}")
    assert answer[0] == status
    if status == 400:
        assert answer[2]["codeDescription"] == "IDS_PARAMETER_EXCEEDS_MAX_LENGTH"


@pytest.mark.parametrize(
    "name", ["from", "to", "page", "pageSize", "limit", "itemId", "order", "cursor", "billId"]
)
def test_parameters_that_are_not_its_own_are_refused(caller: Caller, bank: str, name: str) -> None:
    assert caller.refused("GET", f"/v2/transactions?accountId={bank}&{name}=1") == (400, None)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "accountId=no-uuid",
        "accountId={bank}&after=nonsense",
        "accountId={bank}&after=bm90IGEgY3Vyc29y",
        "accountId={bank}&dateFrom=2026-01-01&createdAtFrom=2026-01-01T00:00:00.000Z",
        "accountId={bank}&dateFrom=yesterday",
        "accountId={bank}&ids=no-uuid",
    ],
)
def test_bad_parameters_are_refused(caller: Caller, bank: str, query: str) -> None:
    assert caller.refused("GET", f"/v2/transactions?{query.format(bank=bank)}")[0] == 400


def test_an_unknown_account_is_not_found(caller: Caller) -> None:
    query = f"/v2/transactions?accountId={uuid4()}"
    assert caller.refused("GET", query) == (404, "ACCOUNT_NOT_FOUND")


def test_one_row_is_the_same_as_in_the_listing(
    caller: Caller, bank_rows: list[dict[str, Any]]
) -> None:
    assert caller.get(f"/transactions/{bank_rows[7]['id']}") == bank_rows[7]
    refused = caller.refused("GET", f"/transactions/{uuid4()}")
    assert refused == (404, "TRANSACTION_NOT_FOUND")


def test_a_client_may_change_a_category(caller: Caller, card_rows: list[dict[str, Any]]) -> None:
    path = f"/transactions/{card_rows[3]['id']}"
    status, _, changed = caller.call("PATCH", path, {"categoryId": "13000000"})
    assert (status, changed["category"]) == (200, "Donations")
    assert changed["updatedAt"] > card_rows[3]["updatedAt"]
    assert caller.get(path) == changed
    assert caller.refused("PATCH", path, {"categoryId": "1"}) == (404, "CATEGORY_NOT_FOUND")


def test_the_page_listing_is_gone(caller: Caller, bank: str) -> None:
    refused = caller.refused("GET", f"/transactions?accountId={bank}")
    assert refused == (410, "ENDPOINT_DEPRECATED")


def test_the_page_listing_can_be_had_back() -> None:
    with SimulatorProcess(rate_limit=0, legacy_transactions=True) as running:
        caller = Caller(running)
        item = running.post("/_simulator/items", {"transactions": 30, "accounts": 1})
        account = caller.get(f"/accounts?itemId={item['id']}")["results"][0]["id"]
        page = caller.get(f"/transactions?accountId={account}&pageSize=20&page=2")
        assert (page["total"], page["totalPages"], len(page["results"])) == (30, 2, 10)


def test_money_out_is_negative_on_bank_accounts_and_positive_on_cards(
    bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    assert all((row["amount"] < 0) == (row["type"] == "DEBIT") for row in bank_rows)
    assert all((row["amount"] > 0) == (row["type"] == "DEBIT") for row in card_rows)


def test_amounts_have_two_decimals_at_most(bank_rows: list[dict[str, Any]]) -> None:
    amounts = [Decimal(str(row["amount"])) for row in bank_rows]
    assert all(amount == round(amount, 2) for amount in amounts)


def test_the_data_looks_like_brazil(
    bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    methods = {row["paymentData"]["paymentMethod"] for row in bank_rows if row["paymentData"]}
    assert methods == {"PIX", "TED", "BOLETO"}
    boleto = next(
        row["paymentData"]["boletoMetadata"]
        for row in bank_rows
        if row["paymentData"] and row["paymentData"]["boletoMetadata"]
    )
    assert len(boleto["barcode"]) == 44
    assert any(row["categoryId"] == "01010000" for row in bank_rows), "salaries"
    assert any(row["categoryId"] == "04000000" for row in bank_rows), "own transfers"
    metadata = [row["creditCardMetadata"] for row in card_rows]
    assert any(data.get("totalInstallments", 0) > 1 for data in metadata)
    foreign = [row for row in card_rows if row["currencyCode"] == "USD"]
    assert foreign
    assert all(abs(r["amountInAccountCurrency"]) > abs(r["amount"]) for r in foreign)


def test_some_rows_have_twins_and_some_are_scheduled_ahead(
    bank_rows: list[dict[str, Any]],
) -> None:
    seen = [(row["description"], row["amount"], row["date"]) for row in bank_rows]
    assert len(seen) > len(set(seen))
    ahead = [row for row in bank_rows if row["date"] > bank_rows[0]["createdAt"]]
    assert ahead
    assert {row["status"] for row in ahead} == {"PENDING"}


def test_a_paid_bill_appears_on_the_card_and_on_the_bank_account(
    caller: Caller, card: str, bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    paid = [b for b in caller.get(f"/bills?accountId={card}")["results"] if b["payments"]]
    assert paid
    for bill in paid:
        amount, day = -bill["totalAmount"], bill["payments"][0]["paymentDate"][:10]
        sides = [
            row["description"]
            for row in (*card_rows, *bank_rows)
            if row["categoryId"] == "05100000"
            and (row["amount"], row["date"][:10]) == (amount, day)
        ]
        assert sorted(sides) == ["PAGAMENTO FATURA CARTAO", "Pagamento recebido"]


def test_a_closed_bill_is_the_sum_of_the_rows_that_name_it(
    caller: Caller, card: str, card_rows: list[dict[str, Any]]
) -> None:
    for bill in caller.get(f"/bills?accountId={card}")["results"]:
        total = sum(
            Decimal(str(row["amountInAccountCurrency"] or row["amount"]))
            for row in card_rows
            if row["creditCardMetadata"]["billId"] == bill["id"]
        )
        assert total == Decimal(str(bill["totalAmount"]))


def test_dates_come_in_the_shapes_that_real_data_has(bank_rows: list[dict[str, Any]]) -> None:
    times = {row["date"][10:] for row in bank_rows}
    assert "T00:00:00.000Z" in times
    assert "T03:00:00.000Z" in times
    assert len(times) > 100


def test_some_rows_have_no_category_and_some_a_printed_balance(
    bank_rows: list[dict[str, Any]], card_rows: list[dict[str, Any]]
) -> None:
    for rows in (bank_rows, card_rows):
        without = [row for row in rows if row["categoryId"] is None]
        assert 0.02 < len(without) / len(rows) < 0.12
        assert {row["category"] for row in without} == {None}
    printed = [row for row in bank_rows if row["balance"] is not None]
    assert 0.1 < len(printed) / len(bank_rows) < 0.4
    assert {row["balance"] for row in card_rows} == {None}
    posted = [Decimal(str(row["amount"])) for row in bank_rows if row["status"] == "POSTED"]
    assert any(Decimal(str(row["balance"])) != posted[0] for row in printed)


def test_a_printed_balance_is_that_of_the_account_after_the_row(
    caller: Caller, accounts: list[dict[str, Any]], bank: str, bank_rows: list[dict[str, Any]]
) -> None:
    left = Decimal(str(next(a["balance"] for a in accounts if a["id"] == bank)))
    for row in bank_rows:
        if row["balance"] is not None:
            assert Decimal(str(row["balance"])) == left
        if row["status"] == "POSTED":
            left -= Decimal(str(row["amount"]))


def test_foreign_rows_are_in_dollars_and_euros(card_rows: list[dict[str, Any]]) -> None:
    foreign = [row for row in card_rows if row["currencyCode"] != "BRL"]
    assert {row["currencyCode"] for row in foreign} == {"USD", "EUR"}
    assert all(row["amountInAccountCurrency"] is not None for row in foreign)


def test_an_item_can_be_without_categories_and_conversions(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    body = {"transactions": 300, "without": ["categories", "conversions"]}
    made = simulator.post("/_simulator/items", body)
    simulator.post(f"/_simulator/items/{made['id']}/collect", {"created": 5, "updated": 5})
    rows = simulator.get(f"/_simulator/truth/{made['id']}")["transactions"]
    assert {(row["category"], row["categoryId"]) for row in rows} == {(None, None)}
    assert {row["amountInAccountCurrency"] for row in rows} == {None}
    assert any(row["currencyCode"] != "BRL" for row in rows)
