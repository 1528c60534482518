"""Endpoints of webhook subscriptions."""

from aiohttp import web

from simulator.http.answers import json_answer, json_body
from simulator.http.lists import listed
from simulator.state import state_of


async def create_webhook(request: web.Request) -> web.Response:
    state, body = state_of(request), await json_body(request)
    hook = state.hooks.add(body.get("event"), body.get("url"), body.get("headers"))
    # The specification says 201, Pluggy's own Node SDK takes nothing but 200.
    return json_answer(hook, state.options.created_webhook_status)


async def list_webhooks(request: web.Request) -> web.Response:
    hooks = state_of(request).hooks.listed()
    return json_answer(listed(request, hooks, one_page=True))


async def get_webhook(request: web.Request) -> web.Response:
    return json_answer(state_of(request).hooks.get(request.match_info["id"]))


async def update_webhook(request: web.Request) -> web.Response:
    body = await json_body(request)
    return json_answer(state_of(request).hooks.change(request.match_info["id"], body))


async def delete_webhook(request: web.Request) -> web.Response:
    state_of(request).hooks.remove(request.match_info["id"])
    return json_answer({"count": 1})


ROUTES = [
    web.post("/webhooks", create_webhook),
    web.get("/webhooks", list_webhooks),
    web.get("/webhooks/{id}", get_webhook),
    web.patch("/webhooks/{id}", update_webhook),
    web.delete("/webhooks/{id}", delete_webhook),
]
