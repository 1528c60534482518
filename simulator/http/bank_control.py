"""Control calls about connectors and about the bank's own books."""

import msgspec
from aiohttp import web

from simulator.bank import ledger
from simulator.http.answers import find_connector, find_item, json_answer, read_order
from simulator.http.errors import bad_request
from simulator.items.item import Item
from simulator.state import Simulator, state_of
from simulator.webhooks.events import connector_event


class Change(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A new health, or whether the connector is offered; when the items of a withdrawn one go.

    unlisted: only the list leaves it out; withdrawn: by id it is 404, too.
    """

    status: str | None = None
    unlisted: bool = False
    withdrawn: bool | None = None
    items_deleted_after: float | None = None


async def change_connector(request: web.Request) -> web.Response:
    """Set the health of a connector, with its webhook; or withdraw it, which no webhook tells."""
    state, connector = state_of(request), find_connector(request)
    change = await read_order(request, Change)
    if change.withdrawn is not None:
        state.world.withdrawn.discard(connector["id"])
        state.world.unlisted.discard(connector["id"])
        if change.withdrawn:
            state.world.withdrawn.add(connector["id"])
    if change.unlisted:
        state.world.unlisted.add(connector["id"])
    of_connector = [item for item in state.world.items.values() if item.connector is connector]
    if change.items_deleted_after is not None:
        for item in of_connector:
            _delete_later(state, item, change.items_deleted_after)
    if change.status is not None:
        connector["health"]["status"] = change.status
        connector["updatedAt"] = state.clock.now()
        for item in of_connector:
            item.delete_json()
        state.delivery.emit(connector_event(connector["id"], change.status))
    return json_answer(connector)


def _delete_later(state: Simulator, item: Item, seconds: float) -> None:
    def delete() -> None:
        if item.id in state.world.items:
            state.lifecycle.delete(item)

    state.clock.call_later(round(seconds * 1000), delete)


async def get_ledger(request: web.Request) -> web.Response:
    item = find_item(request.match_info["id"], request)
    return json_answer({"months": ledger.by_month(item)})


async def get_ledger_of_connections(request: web.Request) -> web.Response:
    """The books behind several items of one person, in the order of their connection."""
    world = state_of(request).world
    named = [name for name in request.query.get("items", "").split(",") if name]
    items = [item for name in named if (item := world.books_of(name)) is not None]
    if not named or len(items) < len(named):
        raise bad_request("items: ids of items that exist, or were deleted with their connector")
    return json_answer(ledger.of_connections(items))


ROUTES = [
    web.post("/_simulator/connectors/{id}", change_connector),
    web.get("/_simulator/ledger", get_ledger_of_connections),
    web.get("/_simulator/ledger/{id}", get_ledger),
]
