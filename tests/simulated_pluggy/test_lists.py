"""The simulator: lists by page number and by cursor, for all or one item, switched at any time."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller

PAGE = {"page", "total", "totalPages", "results"}
OPEN_FINANCE = 601


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=0, seed=23) as running:
        yield running


@pytest.fixture
def caller(simulator: SimulatorProcess) -> Iterator[Caller]:
    yield Caller(simulator)
    simulator.post("/_simulator/lists", {"model": "page"})
    simulator.call("DELETE", "/_simulator/faults")


def made(simulator: SimulatorProcess, **options: Any) -> dict[str, Any]:
    order = {"transactions": 20, "accounts": 3, "connectorId": OPEN_FINANCE} | options
    item: dict[str, Any] = simulator.post("/_simulator/items", order)
    return item


def paths(caller: Caller, item_id: str) -> list[str]:
    """Every list: of an item, of its accounts and investments, and of no item."""
    accounts = caller.get(f"/accounts?itemId={item_id}")["results"]
    [card, *_] = [account["id"] for account in accounts if account["type"] == "CREDIT"]
    [investment, *_] = caller.get(f"/investments?itemId={item_id}")["results"]
    return [
        *(f"/{name}?itemId={item_id}" for name in ("accounts", "investments", "loans", "consents")),
        f"/bills?accountId={card}",
        f"/investments/{investment['id']}/transactions",
        *("/connectors?sandbox=true", "/categories", "/webhooks"),
    ]


def walk(caller: Caller, path: str) -> list[list[dict[str, Any]]]:
    """All pages of a list by cursor."""
    pages, following = [], path
    while True:
        answer = caller.get(following)
        assert set(answer) == {"results", "next"}
        pages.append(answer["results"])
        if answer["next"] is None:
            return pages
        assert answer["next"].startswith("?")
        following = path.partition("?")[0] + answer["next"]


def test_each_list_has_the_same_rows_in_both_models(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    lists = paths(caller, made(simulator)["id"])
    by_page = {path: caller.get(path) for path in lists}
    simulator.post("/_simulator/lists", {"model": "cursor", "pageSize": 2})
    for path in lists:
        assert set(by_page[path]) == PAGE
        pages = walk(caller, path)
        assert [row for page in pages for row in page] == by_page[path]["results"]
        assert max(map(len, pages)) <= 2
    assert len(walk(caller, lists[0])) == 2


def test_one_item_switches_and_the_others_stay(simulator: SimulatorProcess, caller: Caller) -> None:
    other = made(simulator)["id"]
    item = made(simulator, lists={"model": "cursor", "pageSize": 1})["id"]
    assert len(walk(caller, f"/accounts?itemId={item}")) == 3
    assert set(caller.get(f"/accounts?itemId={other}")) == PAGE
    simulator.post("/_simulator/lists", {"item": other, "model": "cursor"})
    simulator.post("/_simulator/lists", {"item": item, "model": "page"})
    assert set(caller.get(f"/accounts?itemId={item}")) == PAGE
    assert len(walk(caller, f"/accounts?itemId={other}")) == 1


def test_a_list_by_cursor_refuses_page_numbers_and_cursors_that_lead_nowhere(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = made(simulator, lists={"model": "cursor", "pageSize": 1})["id"]
    path = f"/investments?itemId={item}"
    following = caller.get(path)["next"]
    assert caller.refused("GET", f"{path}&page=2") == (400, None)
    assert caller.refused("GET", f"{path}&after=nowhere") == (400, None)
    [first] = caller.get(path)["results"]
    simulator.post(f"/_simulator/items/{item}/collect", {"close": [first["id"]]})
    assert caller.refused("GET", f"/investments{following}") == (400, None)


def test_a_list_may_leave_out_whether_it_goes_on(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    path = f"/accounts?itemId={made(simulator)['id']}"
    simulator.post("/_simulator/faults", {"match": "GET /accounts", "kind": "no_paging"})
    assert set(caller.get(path)) == {"results"}
    assert set(caller.get(path)) == PAGE


def test_misspelt_paging_is_refused(simulator: SimulatorProcess) -> None:
    for order in ({"model": "pages"}, {"pageSize": 0}, {"pagesize": 2}):
        assert simulator.call("POST", "/_simulator/lists", order)[0] == 400


def test_an_option_begins_with_cursors() -> None:
    with SimulatorProcess(seed=23, cursor_lists=True) as running:
        assert set(Caller(running).get("/categories")) == {"results", "next"}
