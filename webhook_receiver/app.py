"""HTTP handlers of the receiver: every delivery is answered within four seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from webhook_receiver.delivery_counts import DeliveryCounts
from webhook_receiver.intake import Intake, NotTaken
from webhook_receiver.origins import Authenticator, Origins
from webhook_receiver.responses import (
    handle_expect,
    json_errors,
    not_found,
    refusal,
    send_continue,
    unavailable,
)
from webhook_receiver.storage import NotReady, Stores
from worker.inbox.accept import UnstorableEvent
from worker.inbox.events import MalformedEvent, WebhookEvent, parse_registration, parse_webhook
from worker.infra.http_server import BoundedRunner, HttpLimits, metrics
from worker.infra.outage_log import ServerOutage
from worker.infra.postgres import Pool
from worker.infra.tasks import end
from worker.infra.time_slices import HEAVY_BYTES, beside

log = structlog.get_logger()

Parser = Callable[[bytes, datetime], WebhookEvent]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
BODY_TIMEOUT_S: Final = 3.0
ANSWER_TIMEOUT_S: Final = 3.8
STOP_TIMEOUT_S: Final = 5.0

TOO_LARGE: Final = "the body is larger than 4 MiB"
ENCODED: Final = "send the body as it is: no Content-Encoding is taken"
UNREADABLE_BODY: Final = "the body did not arrive as its headers say"


@dataclass(frozen=True, slots=True)
class ReceiverServices:
    """Dependencies and time-outs of the handlers."""

    authenticator: Authenticator
    secret_header: str
    origins: Origins
    stores: Stores
    intake: Intake
    counts: DeliveryCounts
    db: Pool
    body_timeout_s: float = BODY_TIMEOUT_S
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    storage: ServerOutage = field(default_factory=partial(ServerOutage, "storage"))
    """Outage of Postgres and the spool together, logged once."""


class Refused(Exception):
    """A refused delivery: the name it is counted under, and the response."""

    def __init__(self, counted_as: str, response: web.Response) -> None:
        super().__init__(counted_as)
        self.counted_as = counted_as
        self.response = response


DELIVERY_PATH: Final = "/webhooks/pluggy"
JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
STORED: Final = {
    answer: json.dumps({"status": answer}).encode() for answer in ("accepted", "duplicate", "kept")
}
"""The bodies of a 202."""
SERVICES: Final = web.AppKey("services", ReceiverServices)
STORING: Final = web.AppKey("storing", asyncio.Task[None])


def receiver_app(services: ReceiverServices) -> web.Application:
    """The app with its routes and background tasks."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[json_errors])
    app[SERVICES] = services
    for method, path, handler in (
        ("POST", DELIVERY_PATH, receive),
        ("POST", DELIVERY_PATH + "/{secret:[^/]+}", receive),
        ("POST", "/items", register),
        ("GET", "/livez", livez),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", metrics),
        ("*", "/{anything:.*}", not_found),
    ):
        app.router.add_route(method, path, handler, expect_handler=handle_expect)
    app.cleanup_ctx.append(_background)
    return app


def receiver_runner(services: ReceiverServices, limits: HttpLimits | None = None) -> web.AppRunner:
    """A runner of the app, ready for a site."""
    return BoundedRunner(
        receiver_app(services), limits or HttpLimits(), shutdown_timeout=STOP_TIMEOUT_S
    )


async def _background(app: web.Application) -> AsyncIterator[None]:
    services = app[SERVICES]
    storing = asyncio.create_task(services.intake.run())
    watching = asyncio.create_task(services.stores.watch(services.intake.wakeups.wake_for))
    counting = asyncio.create_task(services.counts.run(services.db))
    app[STORING] = storing
    yield
    services.intake.close()
    await asyncio.gather(storing, return_exceptions=True)
    counting.cancel()  # once only: it flushes at its end
    await asyncio.gather(end(watching), counting, return_exceptions=True)


async def receive(request: web.Request) -> web.StreamResponse:
    """POST /webhooks/pluggy[/{secret}]: 202 only once the event is stored durably."""
    services = request.app[SERVICES]
    origins = services.origins
    if origins.allowed and not origins.admit(
        request.remote, request.headers.getall("X-Forwarded-For", ())
    ):
        services.counts.add("", "unauthorized")
        return refusal(401, "unauthorized", "deliveries are not taken from this address")
    return await _take(request, parse_webhook)


async def register(request: web.Request) -> web.StreamResponse:
    """POST /items {"itemId"}: register an item that the Connect widget has just created."""
    return await _take(request, parse_registration)


async def _take(request: web.Request, parse: Parser) -> web.Response:
    loop = asyncio.get_running_loop()
    services = request.app[SERVICES]
    deadline = loop.time() + services.answer_timeout_s
    try:
        _authenticate(services, request)
        _refuse_body(request)
        body = await _body(services, request)
        event = await _parsed(parse, body, deadline)
    except TimeoutError:
        services.counts.add("", "unavailable")
        return unavailable()
    except Refused as refused:
        services.counts.add("", refused.counted_as)
        return refused.response
    answer, response = await _store(services, event, deadline)
    services.counts.add(event.event, answer)
    return response


def _authenticate(services: ReceiverServices, request: web.Request) -> None:
    """Check the secret in the path, else in the header; each of several headers must be valid."""
    in_path = request.match_info.get("secret")
    presented = [in_path] if in_path else request.headers.getall(services.secret_header, [None])
    if not all([services.authenticator.accepts(secret) for secret in presented]):
        detail = "the webhook secret is missing or wrong"
        raise Refused("unauthorized", refusal(401, "unauthorized", detail))


def _refuse_body(request: web.Request) -> None:
    """Refuse encoded or too large bodies by their headers, without reading them."""
    if "Content-Encoding" in request.headers:
        raise Refused("encoded", refusal(415, "unsupported_media_type", ENCODED))
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise Refused("too_large", refusal(413, "payload_too_large", TOO_LARGE))


async def _body(services: ReceiverServices, request: web.Request) -> bytes:
    try:
        if request.content_length and request.content.is_eof():  # it came with its headers
            return request.content.read_nowait()
        async with asyncio.timeout(services.body_timeout_s):
            await send_continue(request)
            return await request.read()
    except TimeoutError:
        detail = f"the body did not arrive within {services.body_timeout_s:g} seconds"
        raise Refused("slow_body", refusal(408, "request_timeout", detail)) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused("too_large", refusal(413, "payload_too_large", TOO_LARGE)) from None
    except (web.RequestPayloadError, OSError):  # bad chunks, or the sender is gone
        raise Refused("malformed", refusal(400, "malformed_body", UNREADABLE_BODY)) from None


async def _parsed(parse: Parser, body: bytes, deadline: float) -> WebhookEvent:
    try:
        if len(body) <= HEAVY_BYTES:
            return parse(body, datetime.now(UTC))
        async with asyncio.timeout_at(deadline):
            return await beside(len(body), parse, body, datetime.now(UTC))
    except MalformedEvent as error:
        raise Refused("malformed", refusal(400, "malformed_event", str(error))) from None


async def _store(
    services: ReceiverServices, event: WebhookEvent, deadline: float
) -> tuple[str, web.Response]:
    try:
        accepted = await services.intake.accept(event, deadline)
    except UnstorableEvent:
        return "unstorable", refusal(400, "unstorable_event", "Postgres refuses this event's data")
    except NotTaken:
        return "unavailable", unavailable()
    except Exception as error:
        services.storage.failed(error)
        return "unavailable", unavailable()
    services.storage.answered()
    answer = "duplicate" if not accepted.is_new else "kept" if event.kept else "accepted"
    if answer == "kept":
        log.warning("event_kept", event_name=event.event, reason=event.reason)
    return answer, web.Response(body=STORED[answer], status=202, headers=JSON)


async def livez(request: web.Request) -> web.Response:
    """GET /livez: the process answers, and its storing task runs."""
    if request.app[STORING].done():
        return refusal(503, "not_storing", "nothing is stored any more; restart this process")
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: Postgres takes events, or the spool does in its place."""
    try:
        outage = await request.app[SERVICES].stores.outage()
    except NotReady as error:
        because = f"; nor does the spool: {error.spool}" if error.spool else ""
        return refusal(503, error.word, f"Postgres takes no events{because}")
    if outage is not None:
        return web.json_response({"status": "spooling", "postgres": outage})
    return web.json_response({"status": "ok"})
