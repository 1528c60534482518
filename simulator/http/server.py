"""The HTTP server: logs, applies faults to, limits and authenticates every request in one place."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from simulator.faults import apply as apply_fault
from simulator.faults.faults import BEFORE, VIEWS, Fault, Subject
from simulator.http import access as api_access
from simulator.http import bank_control, control, views
from simulator.http import items as api_items
from simulator.http import products as api_products
from simulator.http import resources as api_resources
from simulator.http import transactions as api_transactions
from simulator.http import webhooks as api_webhooks
from simulator.http.answers import error_answer
from simulator.http.errors import ApiError
from simulator.http.keys import CONNECT
from simulator.http.limits import group_of
from simulator.options import Options
from simulator.state import STATE, Simulator

# Blocks of 500 ids make URLs of 18 kB.
MAX_LINE = 32 * 1024 + 512
_MAX_BODY = 4 * 1024 * 1024
_OPEN = frozenset({"/auth"})
# The modules of Pluggy's own endpoints; docs/simulator-operations.md lists them.
API = (api_access, api_items, api_products, api_resources, api_transactions, api_webhooks)
REQUEST_ID = "x-request-id"
# The status in the log of a request that a time-out fault swallowed.
NO_ANSWER = 0
# All that a connect token may read.
_FOR_CONNECT = frozenset({("GET", "/items/{id}"), ("GET", "/accounts")})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _template(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _subject(state: Simulator, request: web.Request) -> Subject:
    world = state.world
    named = request.match_info.get("id") or request.query.get("itemId", "")
    account = world.accounts.get(request.query.get("accountId", named))
    row = world.rows.get(named)
    if account is None and row is not None:
        account = row.account
    if account is not None:
        return Subject(account.item_id, account.id)
    owner = world.owners.get(named)
    if owner is not None:
        return Subject(owner.id)
    if named in world.items or named in world.deleted:
        return Subject(named)
    return Subject(views.past_owner(world, request.query.get("accountId", named)))


def _admit(state: Simulator, request: web.Request, template: str | None) -> None:
    if template is None:
        known = isinstance(request.match_info.http_exception, web.HTTPMethodNotAllowed)
        raise ApiError(405 if known else 404, f"Cannot {request.method} {request.path}")
    state.limits.spend(request.remote or "", group_of(request.method, template))
    if template in _OPEN:
        return
    kind = state.keys.check(request.headers.get("X-API-KEY"))
    if kind == CONNECT and (request.method, template) not in _FOR_CONNECT:
        raise ApiError(403, "Missing or invalid authorization token", "API_KEY_MISSING_OR_INVALID")


class _Call(NamedTuple):
    """A request of a client, with its route, its subject and the fault that it meets."""

    state: Simulator
    request: web.Request
    template: str | None
    about: Subject
    fault: Fault | None


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/_simulator"):
        return await _controlled(request, handler)
    state = request.app[STATE]
    about = _subject(state, request)
    request["request_id"] = state.requests.new_id()
    fault = state.faults.pick(request.method, request.path, request.query_string, about)
    call = _Call(state, request, _template(request), about, fault)
    if fault is not None and fault.kind == "timeout":
        # Noted now: when the wait is over the client has long gone.
        _note(call, NO_ANSWER)
        return _headed(call, await _answer(call, handler))
    answer = _headed(call, await _answer(call, handler))
    _note(call, answer.status)
    if fault is None or fault.kind in BEFORE | VIEWS or not isinstance(answer, web.Response):
        return answer
    return _headed(call, await apply_fault.after(state, request, answer, fault))


def _headed(call: _Call, answer: web.StreamResponse) -> web.StreamResponse:
    """The answer with the headers of every answer, refusals and failures included."""
    if not answer.prepared:
        answer.headers.setdefault("Date", call.state.clock.http_date())
        answer.headers.setdefault(REQUEST_ID, call.request["request_id"])
    return answer


def _note(call: _Call, status: int) -> None:
    request = call.request
    call.state.requests.note(
        f"{request.method} {call.template or request.path}",
        request.headers.get("User-Agent", ""),
        method=request.method,
        path=request.path,
        query=request.query_string,
        status=status,
        item=request.get("item_id") or call.about.item,
        request_id=request["request_id"],
    )


async def _answer(call: _Call, handler: Handler) -> web.StreamResponse:
    state, request, template, about, fault = call
    try:
        if fault is not None and fault.kind in BEFORE:
            state.faults.spend(fault)
            await apply_fault.before(fault)
        _admit(state, request, template)
        if fault is not None and views.show(state, request, template or "", about, fault):
            state.faults.spend(fault)
        return await handler(request)
    except ApiError as error:
        return error_answer(error)


async def _controlled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return error_answer(error)
    except web.HTTPException as refusal:
        return error_answer(ApiError(refusal.status, refusal.reason))


def create_app(options: Options) -> web.Application:
    app = web.Application(middlewares=[gate], client_max_size=_MAX_BODY)
    app[STATE] = Simulator(options)
    for module in (*API, bank_control, control):
        app.add_routes(module.ROUTES)
    app.cleanup_ctx.append(_deliveries)
    return app


async def _deliveries(app: web.Application):  # type: ignore[no-untyped-def]
    await app[STATE].delivery.open()
    yield
    await app[STATE].delivery.close()
