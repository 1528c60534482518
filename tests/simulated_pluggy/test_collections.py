"""The simulator: the changes of one collection, on which webhooks, lists and truth agree."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.simulator_process import SimulatorError, SimulatorProcess
from tests.support.simulator_tools import Caller, Receiver, delivered

Item = dict[str, Any]
DAY = 24 * 3600


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def simulator(receiver: Receiver, moment: str) -> Iterator[SimulatorProcess]:
    options: dict[str, Any] = {"rate_limit": 0, "key_ttl": 10**9, "seed": 5}
    with SimulatorProcess(receiver.url, clock_start=moment, **options) as running:
        yield running


@pytest.fixture(scope="module")
def caller(simulator: SimulatorProcess) -> Caller:
    return Caller(simulator)


@pytest.fixture(params=[0, 601], ids=["direct", "open finance"])
def item(simulator: SimulatorProcess, request: pytest.FixtureRequest) -> Item:
    body = {"transactions": 300, "accounts": 3, "connectorId": request.param}
    return dict(simulator.post("/_simulator/items", body))


def collect(simulator: SimulatorProcess, item: Item, **order: Any) -> Any:
    return simulator.post(f"/_simulator/items/{item['id']}/collect", order)


def truth(simulator: SimulatorProcess, item: Item) -> Any:
    return simulator.get(f"/_simulator/truth/{item['id']}")


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows}


def changed_ids(collected: Any, what: str) -> list[str]:
    lists = collected["changes"]["accounts"].values()
    return [row_id for changes in lists for row_id in changes[what]]


def test_the_lists_are_the_difference_between_the_truth_before_and_after(
    simulator: SimulatorProcess, item: Item
) -> None:
    before = by_id(truth(simulator, item)["transactions"])
    report = collect(
        simulator, item, created=7, late=3, scheduled=2, twins=1, updated=9, deleted=5, restated=4
    )
    after = by_id(truth(simulator, item)["transactions"])
    assert set(changed_ids(report, "created")) == after.keys() - before.keys()
    assert set(changed_ids(report, "deleted")) == before.keys() - after.keys()
    differing = {
        row_id for row_id in before.keys() & after.keys() if before[row_id] != after[row_id]
    }
    assert set(changed_ids(report, "updated")) == differing
    assert len(changed_ids(report, "created")) == 7 + 3 + 2 + 2 + 4
    assert len(changed_ids(report, "deleted")) == 5 + 4
    assert len(changed_ids(report, "updated")) == 9


def test_webhooks_announce_the_same_lists(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver, item: Item
) -> None:
    delivered(simulator)
    events_before = len(receiver.deliveries)
    report = collect(simulator, item, created=4, updated=3, deleted=2)
    delivered(simulator)
    bodies = [delivery.body for delivery in receiver.deliveries[events_before:]]
    assert sorted(bodies, key=str) == sorted(report["events"], key=str)
    for name in ("updated", "deleted"):
        of_name = [body for body in bodies if body["event"] == f"transactions/{name}"]
        ids = [row_id for body in of_name for row_id in body["transactionIds"]]
        assert sorted(ids) == sorted(changed_ids(report, name))
    for body in (body for body in bodies if body["event"] == "transactions/created"):
        rows = caller.walk(
            f"?accountId={body['accountId']}&createdAtFrom={body['transactionsCreatedAtFrom']}"
        )
        assert len(rows) == body["transactionsCount"]
        assert min(row["date"] for row in rows) == body["transactionsMinDate"]
        link = body["createdTransactionsLinkV2"].removeprefix(simulator.url)
        assert caller.get(link)["results"] == rows
    assert [body["event"] for body in bodies].count("item/updated") == 1


def test_late_rows_are_created_now_and_dated_weeks_ago(
    simulator: SimulatorProcess, item: Item
) -> None:
    report = collect(simulator, item, late=5)
    rows = by_id(truth(simulator, item)["transactions"])
    late = [rows[row_id] for row_id in changed_ids(report, "created")]
    assert len(late) == 5
    assert all(row["date"] < row["createdAt"] for row in late)
    assert {row["createdAt"] for row in late} == {report["item"]["lastUpdatedAt"]}


def test_pending_rows_settle_under_their_ids(simulator: SimulatorProcess, item: Item) -> None:
    collect(simulator, item, scheduled=3)
    before = by_id(truth(simulator, item)["transactions"])
    pending = {row_id for row_id, row in before.items() if row["status"] == "PENDING"}
    report = collect(simulator, item, settled=3)
    after = by_id(truth(simulator, item)["transactions"])
    settled = changed_ids(report, "updated")
    assert len(settled) == 3
    assert set(settled) <= pending
    assert {after[row_id]["status"] for row_id in settled} == {"POSTED"}
    assert not any(after[row_id]["description"].startswith("AGENDADO") for row_id in settled)
    assert not changed_ids(report, "created") + changed_ids(report, "deleted")


def test_a_restated_row_has_nothing_that_links_it_to_the_old_one(
    simulator: SimulatorProcess, item: Item
) -> None:
    before = by_id(truth(simulator, item)["transactions"])
    report = collect(simulator, item, restated=1)
    after = by_id(truth(simulator, item)["transactions"])
    old, new = before[changed_ids(report, "deleted")[0]], after[changed_ids(report, "created")[0]]
    same = sum(old[name] == new[name] for name in ("amount", "date", "description"))
    assert same == 2
    assert new["providerId"] is None or new["providerId"] != old["providerId"]


def test_a_deleted_row_returns_under_its_old_id(simulator: SimulatorProcess, item: Item) -> None:
    gone = changed_ids(collect(simulator, item, deleted=3), "deleted")
    back = changed_ids(collect(simulator, item, returned=2), "created")
    assert len(back) == 2
    assert set(back) < set(gone)
    rows = by_id(truth(simulator, item)["transactions"])
    assert all(rows[row_id]["createdAt"] > item["lastUpdatedAt"] for row_id in back)


def test_a_closing_bill_takes_its_rows_and_a_payment_shows_on_both_accounts(
    simulator: SimulatorProcess, item: Item
) -> None:
    report = collect(simulator, item, products={"bills": {"created": 1}})
    bill_id = report["changes"]["products"]["bills"]["created"][0]
    now = truth(simulator, item)
    bill = by_id(now["bills"])[bill_id]
    named = {
        row["id"]
        for row in now["transactions"]
        if (row["creditCardMetadata"] or {}).get("billId") == bill_id
    }
    assert named == set(changed_ids(report, "updated"))
    while not by_id(truth(simulator, item)["bills"])[bill_id]["payments"]:
        report = collect(simulator, item, products={"bills": {"updated": 1}})
    rows = by_id(truth(simulator, item)["transactions"])
    sides = [rows[row_id] for row_id in changed_ids(report, "created")]
    assert sorted(row["description"] for row in sides) == [
        "PAGAMENTO FATURA CARTAO",
        "Pagamento recebido",
    ]
    assert {row["amount"] for row in sides} == {-bill["totalAmount"]}


def test_other_products_change_and_their_lists_follow(
    simulator: SimulatorProcess, caller: Caller, item: Item
) -> None:
    before = truth(simulator, item)
    counts = {"created": 1, "updated": 1, "deleted": 1}
    names = ["investments", "investment_transactions", "loans"]
    report = collect(
        simulator,
        item,
        products={name: counts for name in names} | {"identities": {"updated": 1}},
    )
    after = truth(simulator, item)
    for name in names:
        changes = report["changes"]["products"][name]
        old, new = by_id(before[name]), by_id(after[name])
        assert set(changes["created"]) <= new.keys() - old.keys()
        assert set(changes["deleted"]) <= old.keys() - new.keys()
        assert all(old[i] != new[i] for i in changes["updated"] if i in old and i in new)
    assert after["identities"] != before["identities"]
    assert caller.get(f"/loans?itemId={item['id']}")["results"] == after["loans"]
    assert caller.get(f"/investments?itemId={item['id']}")["results"] == after["investments"]
    assert caller.get(f"/identity?itemId={item['id']}") == after["identities"][0]


def test_what_a_collection_makes_is_not_changed_by_the_same_one(
    simulator: SimulatorProcess, item: Item
) -> None:
    before = truth(simulator, item)
    everything = {"created": 3, "updated": 2, "deleted": 1000}
    names = ["investment_transactions", "loans", "investments"]
    report = collect(simulator, item, products=dict.fromkeys(names, everything))
    after = truth(simulator, item)
    for name in names:
        changes = report["changes"]["products"][name]
        old, new = by_id(before[name]), by_id(after[name])
        assert set(changes["deleted"]) <= old.keys() - new.keys()
        assert set(changes["created"]) <= new.keys() - old.keys()
        assert set(changes["updated"]) <= old.keys()
        assert len(changes["created"]) == 3
        assert not old.keys() & new.keys()


def test_a_partial_collection_keeps_older_data_and_says_so(
    simulator: SimulatorProcess, item: Item
) -> None:
    before = truth(simulator, item)
    report = collect(
        simulator,
        item,
        partial=["TRANSACTIONS", "LOANS"],
        created=3,
        products={"loans": {"created": 1}, "investments": {"updated": 1}},
    )
    after = truth(simulator, item)
    assert report["item"]["executionStatus"] == "PARTIAL_SUCCESS"
    detail = report["item"]["statusDetail"]
    assert detail["transactions"]["isUpdated"] is False
    assert detail["transactions"]["lastUpdatedAt"] == item["lastUpdatedAt"]
    assert detail["investments"]["lastUpdatedAt"] == report["item"]["lastUpdatedAt"]
    assert after["transactions"] == before["transactions"]
    assert after["loans"] == before["loans"]
    assert after["investments"] != before["investments"]


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_without_consent_lists_are_empty_with_200_until_it_is_renewed(
    simulator: SimulatorProcess, caller: Caller, item: Item, how: str
) -> None:
    before = truth(simulator, item)
    account, row = before["accounts"][0]["id"], before["transactions"][0]["id"]
    report = collect(simulator, item, consent=how)
    assert report["item"]["executionStatus"] == "USER_AUTHORIZATION_REVOKED"
    expires = report["item"]["consentExpiresAt"]
    assert (expires is None) == (how == "revoked")
    assert expires is None or expires < report["item"]["updatedAt"]
    for path in (
        f"/accounts?itemId={item['id']}",
        f"/v2/transactions?accountId={account}",
        f"/investments?itemId={item['id']}",
        f"/loans?itemId={item['id']}",
        f"/bills?accountId={account}",
    ):
        assert caller.get(path)["results"] == []
    for path in (f"/accounts/{account}", f"/transactions/{row}", f"/identity?itemId={item['id']}"):
        assert caller.refused("GET", path)[0] == 404
    consent = caller.get(f"/consents?itemId={item['id']}")["results"][0]
    assert consent["revokedAt" if how == "revoked" else "expiresAt"] is not None
    withheld = truth(simulator, item)
    assert withheld["withheld"] is True
    assert withheld["accounts"] == withheld["transactions"] == withheld["identities"] == []
    assert withheld["behind"]["transactions"] == before["transactions"]
    assert collect(simulator, item)["item"]["status"] == "LOGIN_ERROR"
    assert collect(simulator, item, consent="renewed")["item"]["status"] == "UPDATED"
    assert truth(simulator, item)["transactions"] == before["transactions"]


def test_a_consent_revoked_between_two_pages_ends_the_walk_with_an_empty_page(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    made = simulator.post("/_simulator/items", {"transactions": 1200, "accounts": 1})
    account = truth(simulator, made)["accounts"][0]["id"]
    first = caller.get(f"/v2/transactions?accountId={account}")
    collect(simulator, made, consent="revoked")
    assert caller.get(f"/v2/transactions{first['next']}") == {"results": [], "next": None}


def test_accounts_loans_and_investments_close_without_a_webhook_of_their_own(
    simulator: SimulatorProcess, caller: Caller, item: Item
) -> None:
    before = truth(simulator, item)
    account, loan = before["accounts"][0]["id"], before["loans"][0]["id"]
    investment = before["investments"][0]["id"]
    report = collect(simulator, item, close=[account, loan, investment])
    assert [event["event"] for event in report["events"]] == ["item/updated"]
    after = truth(simulator, item)
    assert account not in by_id(after["accounts"])
    assert all(row["accountId"] != account for row in after["transactions"])
    assert caller.refused("GET", f"/accounts/{account}") == (404, "ACCOUNT_NOT_FOUND")
    assert caller.refused("GET", f"/loans/{loan}") == (404, "LOAN_NOT_FOUND")
    assert caller.refused("GET", f"/investments/{investment}")[0] == 404
    assert caller.refused("GET", f"/investments/{investment}/transactions")[0] == 404


@pytest.mark.parametrize(
    ("status", "execution_status", "event"),
    [
        ("LOGIN_ERROR", "INVALID_CREDENTIALS", "item/error"),
        ("OUTDATED", "SITE_NOT_AVAILABLE", "item/error"),
        ("ACCOUNT_LOCKED", "ACCOUNT_LOCKED", "item/error"),
        ("USER_AUTHORIZATION_PENDING", "USER_AUTHORIZATION_PENDING", "item/error"),
        ("UPDATING", "ACCOUNTS_IN_PROGRESS", "item/login_succeeded"),
        ("WAITING_USER_INPUT", "WAITING_USER_INPUT", "item/waiting_user_input"),
        ("WAITING_USER_ACTION", "WAITING_USER_ACTION", "item/waiting_user_action"),
    ],
)
def test_a_collection_can_end_in_any_status(
    simulator: SimulatorProcess, item: Item, status: str, execution_status: str, event: str
) -> None:
    before = truth(simulator, item)
    report = collect(simulator, item, status=status, created=3)
    assert report["item"]["executionStatus"] == execution_status
    assert [body["event"] for body in report["events"]] == [event]
    assert report["item"]["lastUpdatedAt"] == item["lastUpdatedAt"]
    after = truth(simulator, item)
    assert after["transactions"] == before["transactions"]
    assert collect(simulator, item)["item"]["status"] == "UPDATED"


def test_time_brings_closed_and_paid_bills_settled_rows_and_auto_syncs() -> None:
    start = "2026-01-10T12:00:00.000Z"
    with SimulatorProcess(rate_limit=0, clock_scale=0, clock_start=start, key_ttl=10**9) as running:
        caller = Caller(running)
        item = running.post("/_simulator/items", {"transactions": 200, "connectorId": 601})
        before = truth(running, item)
        pending = {r["id"] for r in before["transactions"] if r["status"] == "PENDING"}
        for _ in range(50):
            running.post("/_simulator/clock", {"advance": DAY})
        after = truth(running, item)
        rows = by_id(after["transactions"])
        assert {
            rows[i]["status"] for i in pending & rows.keys() if rows[i]["date"] < "2026-02-25"
        } <= {"POSTED"}
        closed = by_id(after["bills"]).keys() - by_id(before["bills"]).keys()
        assert 1 <= len(closed) <= 2
        assert any(by_id(after["bills"])[bill_id]["payments"] for bill_id in closed)
        for row in rows.values():
            bill_id = (row["creditCardMetadata"] or {}).get("billId")
            assert bill_id is None or bill_id in by_id(after["bills"])
        synced = caller.get(f"/items/{item['id']}")
        assert synced["lastUpdatedAt"] > "2026-02-28"
        dates = {row["createdAt"] for row in rows.values()}
        assert len(dates) > 40
        restated = [r for r in rows.values() if r["createdAt"][:10] > r["date"][:10]]
        assert restated


def test_the_timeline_holds_every_change_in_order(simulator: SimulatorProcess, item: Item) -> None:
    report = collect(simulator, item, created=2, deleted=1, products={"loans": {"updated": 1}})
    lines = simulator.get(f"/_simulator/truth/{item['id']}/timeline")["timeline"]
    assert lines[0]["what"] == "imported"
    assert sum(lines[0]["transactions"].values()) == 300
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    ids = {(line["entity"], line["what"], line["id"]) for line in lines}
    for row_id in changed_ids(report, "created"):
        assert ("transactions", "created", row_id) in ids
    assert ("loans", "updated", report["changes"]["products"]["loans"]["updated"][0]) in ids
    assert lines[-1]["executionStatus"] == "SUCCESS"


@pytest.mark.parametrize(
    "order",
    [
        {"createdd": 1},
        {"created": -1},
        {"status": "FINE"},
        {"partial": ["MAGIC"]},
        {"products": {"magic": {}}},
        {"close": ["no-such-thing"]},
        {"consent": "lost"},
    ],
)
def test_an_order_that_would_do_nothing_is_refused(
    simulator: SimulatorProcess, item: Item, order: dict[str, Any]
) -> None:
    with pytest.raises(SimulatorError) as refused:
        collect(simulator, item, **order)
    assert refused.value.status == 400


def test_quirks_belong_to_the_truth_for_good(simulator: SimulatorProcess, caller: Caller) -> None:
    quirks = ["novelty", "wrong_type", "nul", "date_shape"]
    odd = simulator.post("/_simulator/items", {"transactions": 400, "quirks": quirks})
    rows = truth(simulator, odd)["transactions"]
    account = rows[0]["accountId"]
    listed = caller.walk(f"?accountId={account}")
    assert listed == [row for row in rows if row["accountId"] == account]
    assert any("brandNewField" in row for row in rows)
    assert any("\u0000" in row["description"] for row in rows)
    assert any(isinstance(row["order"], str) for row in rows)
    assert {len(row["date"]) for row in rows} >= {10, 19, 24}


def test_a_collection_may_warn_with_a_code(simulator: SimulatorProcess, caller: Caller) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 5})["id"]
    order = {"partial": ["LOANS"], "warned": ["ACCOUNTS"], "warningCode": "423"}
    simulator.post(f"/_simulator/items/{item}/collect", order)
    detail = caller.get(f"/items/{item}")["statusDetail"]
    codes = {key: [w["code"] for w in value["warnings"]] for key, value in detail.items() if value}
    assert (codes["loans"], codes["accounts"], codes["transactions"]) == (["423"], ["423"], [])


def test_resources_wait_for_an_approval_until_it_is_given(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 5, "connectorId": 601})["id"]
    path, seen = f"/_simulator/items/{item}/collect", []
    for order in ({}, {"pendingAuthorization": True}, {"created": 1}):
        simulator.post(path, order)
        seen.append(caller.get(f"/items/{item}")["hasResourcesPendingAuthorization"])
    simulator.post(path, {"pendingAuthorization": False})
    shown = caller.get(f"/items/{item}")
    assert [*seen, shown["hasResourcesPendingAuthorization"]] == [False, True, True, False]
    assert shown["resourcesCollectedAt"] == shown["lastUpdatedAt"]
    other = simulator.post("/_simulator/items", {"transactions": 5})["id"]
    order = {"pendingAuthorization": True}
    assert simulator.call("POST", f"/_simulator/items/{other}/collect", order)[0] == 400


def test_resources_name_what_waits_for_an_approval(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    order = {"transactions": 5, "accounts": 2, "connectorId": 601}
    item = simulator.post("/_simulator/items", order)["id"]
    path = f"/items/{item}/resources"
    available = caller.get(path)["results"]
    assert {row["status"] for row in available} == {"AVAILABLE"}
    assert {"ACCOUNT", "CREDIT_CARD_ACCOUNT", "LOAN"} <= {row["type"] for row in available}
    simulator.post(f"/_simulator/items/{item}/collect", {"pendingAuthorization": True})
    [waiting] = caller.get(f"{path}?status=PENDING_AUTHORISATION")["results"]
    assert waiting["resourceId"] not in {row["resourceId"] for row in available}
    assert caller.get(f"{path}?pageSize=1&page=2")["total"] == len(available) + 1
    direct = simulator.post("/_simulator/items", {"transactions": 5})["id"]
    assert caller.get(f"/items/{direct}/resources")["results"] == []
