"""The door: authenticate, parse, accept, answer; within four seconds whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import generate_latest

from webhook_receiver.authentication import Authenticator
from webhook_receiver.counts import DeliveryCounts
from webhook_receiver.intake import Intake
from worker.accept import UnstorableEvent
from worker.database import Pool
from worker.events import (
    MalformedEvent,
    WebhookEvent,
    parse_uuid,
    parse_webhook,
    registration,
)

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
BODY_WITHIN_S: Final = 3.0
ANSWER_WITHIN_S: Final = 3.8
RETRY_AFTER_S: Final = "5"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Door:
    """What the handlers use."""

    authenticator: Authenticator
    secret_header: str
    intake: Intake
    counts: DeliveryCounts
    db: Pool


DOOR: Final = web.AppKey("door", Door)


def receiver_app(door: Door) -> web.Application:
    """Routes of the contract; the intake and the counts run as long as the app does."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[json_errors])
    app[DOOR] = door
    app.router.add_post("/webhooks/pluggy", receive)
    app.router.add_post("/webhooks/pluggy/{secret}", receive)
    app.router.add_post("/items", register)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.cleanup_ctx.append(_background)
    return app


async def _background(app: web.Application) -> AsyncIterator[None]:
    door = app[DOOR]
    tasks = [asyncio.create_task(door.intake.run()), asyncio.create_task(door.counts.run(door.db))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is JSON with a name and a sentence, and nothing internal."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        name = error.reason.lower().replace(" ", "_").replace("-", "_")
        return refusal(error.status, name, error.reason)
    except Exception as error:
        log.exception("receiver_failed", error=type(error).__name__)
        return unavailable()


def refusal(status: int, error: str, detail: str, **headers: str) -> web.Response:
    """An error answer of the contract."""
    return web.json_response({"error": error, "detail": detail}, status=status, headers=headers)


def unavailable() -> web.Response:
    """Not stored: the sender tries again, Pluggy up to nine times."""
    return refusal(
        503,
        "unavailable",
        "the event could not be stored; send it again",
        **{"Retry-After": RETRY_AFTER_S},
    )


async def receive(request: web.Request) -> web.StreamResponse:
    """POST /webhooks/pluggy[/{secret}]: 202 only once the event is committed."""
    return await _take(request, lambda body: parse_webhook(body, datetime.now(UTC)))


async def register(request: web.Request) -> web.StreamResponse:
    """POST /items {"itemId"}: an item that the Connect widget has just made."""
    return await _take(request, _registration)


def _registration(body: bytes) -> WebhookEvent:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent("not JSON") from error
    item_id = parse_uuid(fields.get("itemId")) if isinstance(fields, dict) else None
    if item_id is None:
        raise MalformedEvent("no itemId, or it is no UUID")
    return registration(item_id, datetime.now(UTC))


async def _take(request: web.Request, parse: Callable[[bytes], WebhookEvent]) -> web.Response:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANSWER_WITHIN_S
    door = request.app[DOOR]
    presented = request.match_info.get("secret") or request.headers.get(door.secret_header)
    if not door.authenticator.accepts(presented):
        door.counts.add("", "unauthorized")
        return refusal(401, "unauthorized", "the webhook secret is missing or wrong")
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.read()
    except TimeoutError:
        door.counts.add("", "slow_body")
        return refusal(408, "request_timeout", "the body did not arrive within 3 seconds")
    try:
        event = parse(body)
    except MalformedEvent as error:
        door.counts.add("", "malformed")
        return refusal(400, "malformed_event", str(error))
    answer, response = await _store(door, event, deadline - loop.time())
    door.counts.add(event.event, answer)
    return response


async def _store(door: Door, event: WebhookEvent, within_s: float) -> tuple[str, web.Response]:
    try:
        async with asyncio.timeout(within_s):
            accepted = await door.intake.accept(event)
    except UnstorableEvent:
        return "unstorable", refusal(400, "unstorable_event", "Postgres refuses this event's data")
    except Exception as error:
        log.warning("event_not_stored", error=type(error).__name__)
        return "unavailable", unavailable()
    answer = "duplicate" if not accepted.is_new else "kept" if event.kept else "accepted"
    if answer == "kept":
        log.warning("event_kept", event_name=event.event, reason=event.reason)
    return answer, web.json_response({"status": answer}, status=202)


async def livez(_: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Postgres answers and is migrated."""
    try:
        await request.app[DOOR].db.fetchval(
            "SELECT count(*) FROM pluggy_sync.webhook_events WHERE id = 0", timeout=2.0
        )
    except Exception as error:
        return refusal(503, "postgres_unavailable", type(error).__name__)
    return web.json_response({"status": "ok"})


async def metrics(_: web.Request) -> web.Response:
    """Prometheus's text format."""
    return web.Response(
        body=generate_latest(), headers={"Content-Type": "text/plain; version=0.0.4"}
    )
