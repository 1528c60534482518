"""Items: read, refresh, delete."""

from aiohttp import web

from simulator import events
from simulator.answers import bytes_answer, find_item, json_answer, json_body
from simulator.collection import Order
from simulator.items import Item
from simulator.state import Simulator, state_of


def _item(request: web.Request) -> Item:
    return find_item(state_of(request), request.match_info["id"], request)


async def get_item(request: web.Request) -> web.Response:
    return bytes_answer(_item(request).json())


async def update_item(request: web.Request) -> web.Response:
    item, body = _item(request), await json_body(request)
    state = state_of(request)
    for name, field in (("clientUserId", "client_user_id"), ("webhookUrl", "webhook_url")):
        if name in body:
            setattr(item, field, body[name])
    state.collect(item, Order(status="UPDATING", triggered_by="CLIENT"))
    answer = bytes_answer(item.json())
    state.clock.call_later(1000, lambda: _finish(state, item))
    return answer


def _finish(state: Simulator, item: Item) -> None:
    if item.id in state.world.items:
        state.collect(item, Order(created=1, triggered_by="CLIENT"))


async def delete_item(request: web.Request) -> web.Response:
    item, state = _item(request), state_of(request)
    state.world.delete(item)
    event = events.item_event(
        "item/deleted",
        item_id=item.id,
        client_user_id=item.client_user_id,
        triggered_by=None,
    )
    state.tell(item, [event])
    return json_answer({"count": 1})


ROUTES = [
    web.get("/items/{id}", get_item),
    web.patch("/items/{id}", update_item),
    web.delete("/items/{id}", delete_item),
]
