"""The control calls under /_simulator: make items, collect, add faults, move time, show truth."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web

from simulator.bank.books import Count
from simulator.bank.categories import CATEGORIES
from simulator.bank.history import HISTORY_DAYS
from simulator.bank.products import COLLECTED_AS
from simulator.clock import parse_iso
from simulator.faults.faults import Fault
from simulator.faults.quirks import QUIRKS
from simulator.http.answers import (
    bytes_answer,
    find_item,
    int_query,
    json_answer,
    json_body,
    read_order,
    to_order,
)
from simulator.http.errors import bad_request
from simulator.http.lists import set_lists
from simulator.items import truth
from simulator.items.connectors import PRODUCTS
from simulator.items.item import Item
from simulator.items.orders import Collected, Order
from simulator.items.outcomes import FAILURES, USUAL, WAITING
from simulator.items.paging import Paging
from simulator.items.reconnect import Reconnection
from simulator.state import Simulator, state_of
from simulator.webhooks.delivery import DeliveryFaults

_BY_OUR_NAME = {ours: [pluggys] for ours, pluggys in COLLECTED_AS.items()} | {
    "transactions": ["TRANSACTIONS", "PAYMENT_DATA"],
    "accounts": ["ACCOUNTS", "CREDIT_CARDS"],
}


class NewItem(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """An item that is already collected when the call returns."""

    connector_id: int = 0
    client_user_id: str | None = None
    webhook_url: str | None = None
    transactions: Count = 60
    accounts: Count = 2
    imported_minutes_ago: Count = 0
    products: list[str] | None = None
    user: str = "user-ok"
    quirks: list[str] = []
    consent_expires_at: str | None = None
    auto_sync: bool = True
    hides_next_sync: bool = False
    inner_item_id: str | None = None
    without: list[Literal["categories", "conversions"]] = []
    lag: dict[str, Count] = {}
    lists: Paging | None = None
    reconnects: str | None = None
    history_days: Count = HISTORY_DAYS
    reworded: bool = False


def _product_names(names: list[str] | None) -> list[str] | None:
    if names is None:
        return None
    wanted = {pluggys for name in names for pluggys in _BY_OUR_NAME.get(name, [name])}
    _refuse_others("unknown products", wanted, {*PRODUCTS, "items", "consents"})
    return [name for name in PRODUCTS if name in wanted]


def _refuse_others(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    if others := set(given) - set(known):
        raise bad_request(f"{what}: {', '.join(sorted(others))}")


async def create_item(request: web.Request) -> web.Response:
    state, order = state_of(request), await read_order(request, NewItem)
    if order.connector_id not in state.world.connectors:
        raise bad_request(f"unknown connector {order.connector_id}")
    _refuse_others("unknown quirks", order.quirks, QUIRKS)
    again = _reconnection(state, order)
    item = state.world.new_item(
        connector_id=order.connector_id,
        client_user_id=order.client_user_id,
        webhook_url=order.webhook_url,
        products=_product_names(order.products),
    )
    item.parameters, item.quirks = {"user": order.user}, tuple(order.quirks)
    item.consent_expires = _time(order.consent_expires_at)
    item.auto_sync_disabled = None if order.auto_sync else item.created
    item.hides_next_sync = order.hides_next_sync
    _set_inner_item(item, order.inner_item_id)
    item.without = frozenset(order.without)
    _lag(state, item, order.lag)
    if order.lists is not None:
        state.lists.set(order.lists, item.id)
    await state.lifecycle.be_born(
        item,
        Order(triggered_by="USER"),
        transactions=order.transactions,
        accounts=order.accounts,
        minutes_ago=order.imported_minutes_ago,
        again=again,
    )
    return json_answer(item.shown())


def _set_inner_item(item: Item, inner_id: str | None) -> None:
    """Two items of MeuPluggy may show the same connection."""
    if inner_id is None:
        return
    if item.inner_id is None:
        raise bad_request("only items of MeuPluggy have an inner item")
    item.inner_id = inner_id


def _reconnection(state: Simulator, order: NewItem) -> Reconnection | None:
    if order.reconnects is None:
        return None
    earlier = state.world.books_of(order.reconnects)
    if earlier is None:
        raise bad_request("reconnects: an item that exists, or was deleted with its connector")
    return Reconnection(earlier, order.history_days, order.reworded)


def _time(text: str | None) -> int | None:
    try:
        return None if text is None else parse_iso(text)
    except ValueError as error:
        raise bad_request(str(error)) from error


def _check(item: Item, order: Order) -> None:
    """Refuse an order that would do nothing: a misspelt one must not look like success."""
    owned = {*item.accounts, *item.investments, *item.loans}
    _refuse_others("not an open account, investment or loan", order.close, owned)
    _refuse_others("unknown products", order.products, COLLECTED_AS)
    collected = {name for name in order.products if COLLECTED_AS[name] in item.products}
    _refuse_others("the item does not collect", order.products, collected)
    if isinstance(order.partial, list):
        _refuse_others("unknown products", order.partial, PRODUCTS)
    if order.pending_authorization is not None and not item.open_finance:
        raise bad_request("only Open Finance items have resources that wait for an approval")
    known = {None, "UPDATED", *FAILURES, *USUAL, *WAITING}
    if order.status not in known:
        raise bad_request(f"unknown status {order.status}")


def shown(item: Item, done: Collected) -> dict[str, Any]:
    changes = {"accounts": done.accounts, "products": done.products, "closed": done.closed}
    return {"item": item.shown(), "changes": changes, "events": done.events}


async def collect_item(request: web.Request) -> web.Response:
    state, order = state_of(request), await read_order(request, Order)
    item = find_item(request.match_info["id"], request)
    _check(item, order)
    _lag(state, item, order.lag)
    if order.pending_authorization is not None:
        item.pending_authorization = order.pending_authorization
        item.delete_json()
    return json_answer(shown(item, state.lifecycle.collect(item, order)))


def _lag(state: Simulator, item: Item, lists: dict[str, int]) -> None:
    """Have so many answers of each kind of request still show the item as it is now."""
    if not lists:
        return
    item.past = item.snapshot()
    for match, times in lists.items():
        if times:
            state.faults.add(Fault(match, "lag", times=times, item=item.id))


async def remove_item(request: web.Request) -> web.Response:
    """Delete an item without the client's request, as when Pluggy clears its sandbox."""
    state = state_of(request)
    state.lifecycle.delete(find_item(request.match_info["id"], request))
    return json_answer({"count": 1})


async def add_fault(request: web.Request) -> web.Response:
    fault = await read_order(request, Fault)
    if fault.kind == "lag":
        raise bad_request("a lag is ordered with the collection, or with the item, that it is of")
    return json_answer(state_of(request).faults.add(fault))


async def list_faults(request: web.Request) -> web.Response:
    return json_answer(state_of(request).faults.listed())


async def clear_faults(request: web.Request) -> web.Response:
    faults = state_of(request).faults
    if (item_id := request.query.get("item")) is not None:
        return json_answer(faults.take(item_id))
    return json_answer({"removed": faults.clear()})


def _deliveries(state: Simulator, last: int) -> dict[str, Any]:
    delivery = state.delivery
    return {
        "delivery_faults": delivery.delivery_faults,
        "pending": delivery.pending,
        "log": list(delivery.log)[-last:] if last else [],
    }


async def set_delivery_faults(request: web.Request) -> web.Response:
    """Set the delivery faults; those not named are switched off."""
    body = await json_body(request)
    # true counts as 1 for shares and times.
    body = {k: float(v) if isinstance(v, bool) and k != "quiet" else v for k, v in body.items()}
    state_of(request).delivery.delivery_faults = to_order(body, DeliveryFaults)
    return json_answer(_deliveries(state_of(request), 0))


async def list_deliveries(request: web.Request) -> web.Response:
    last = int_query(request, "last", 1000, low=0, high=100_000)
    return json_answer(_deliveries(state_of(request), last))


class Step(msgspec.Struct, forbid_unknown_fields=True):
    advance: float = 0.0


async def move_clock(request: web.Request) -> web.Response:
    state, step = state_of(request), await read_order(request, Step)
    if step.advance < 0:
        raise bad_request("time only moves forward")
    await state.clock.advance(step.advance)
    return json_answer({"now": state.clock.now()})


async def show_clock(request: web.Request) -> web.Response:
    state = state_of(request)
    return json_answer({"now": state.clock.now(), "scale": state.clock.scale})


async def get_truth(request: web.Request) -> web.StreamResponse:
    world, item_id = state_of(request).world, request.match_info["id"]
    if item_id in world.deleted:
        return json_answer(truth.nothing())
    item = find_item(item_id, request)
    if sum(len(account.rows) for account in item.accounts.values()) <= truth.AT_ONCE:
        return bytes_answer(b"".join(truth.write(item)))
    stream = web.StreamResponse(headers={"Content-Type": "application/json"})
    await stream.prepare(request)
    for piece in truth.write(item):
        await stream.write(piece)
    await stream.write_eof()
    return stream


async def get_truth_of_all(request: web.Request) -> web.Response:
    world = state_of(request).world
    return json_answer(
        {
            "items": list(world.items),
            "deleted": sorted(world.deleted),
            "connectors": list(world.listed().values()),
            "categories": list(CATEGORIES.values()),
        }
    )


async def get_timeline(request: web.Request) -> web.Response:
    item = find_item(request.match_info["id"], request)
    return json_answer({"timeline": list(item.timeline)})


async def show_requests(request: web.Request) -> web.Response:
    last = int_query(request, "last", 1000, low=0, high=100_000)
    return json_answer(state_of(request).requests.shown(last))


async def reset_requests(request: web.Request) -> web.Response:
    state_of(request).requests.reset()
    return json_answer({"total": 0})


async def revoke_keys(request: web.Request) -> web.Response:
    return json_answer({"revoked": state_of(request).keys.revoke_all()})


async def reset(request: web.Request) -> web.Response:
    await state_of(request).reset()
    return json_answer({"now": state_of(request).clock.now()})


ROUTES = [
    web.post("/_simulator/reset", reset),
    web.post("/_simulator/items", create_item),
    web.delete("/_simulator/items/{id}", remove_item),
    web.post("/_simulator/items/{id}/collect", collect_item),
    web.post("/_simulator/lists", set_lists),
    web.post("/_simulator/faults", add_fault),
    web.get("/_simulator/faults", list_faults),
    web.delete("/_simulator/faults", clear_faults),
    web.post("/_simulator/webhooks", set_delivery_faults),
    web.get("/_simulator/webhooks", list_deliveries),
    web.post("/_simulator/clock", move_clock),
    web.get("/_simulator/clock", show_clock),
    web.get("/_simulator/truth", get_truth_of_all),
    web.get("/_simulator/truth/{id}", get_truth),
    web.get("/_simulator/truth/{id}/timeline", get_timeline),
    web.get("/_simulator/requests", show_requests),
    web.delete("/_simulator/requests", reset_requests),
    web.delete("/_simulator/keys", revoke_keys),
]
