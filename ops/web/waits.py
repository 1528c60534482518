"""GET /v1/items/{id}/wait: the read barrier. It answers once what is known of an item is stored."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from ops.web.barrier import Outcome, Result
from ops.web.items import deleted, item_id_of, light_of, products, unknown
from ops.web.responses import Refused, answer, unavailable
from ops.web.services import services_of
from worker.inbox.events import MAX_EVENT_ID_LENGTH
from worker.infra.parsing import clean_text, parse_time

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 300.0
PARAMETERS: Final = {"timeout", "event_id", "since"}
SECONDS: Final = re.compile(r"\d{1,3}(\.\d{1,3})?", re.ASCII)
RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


async def wait(request: web.Request) -> web.Response:
    """GET /v1/items/{id}/wait[?timeout=30][&event_id=|&since=]: 200, 202, 400, 404, 410, 503."""
    item_id = item_id_of(request)
    parameters = _parameters(request)
    result = await services_of(request).barrier.wait(item_id, **parameters)
    return _answer(item_id, result)


def _answer(item_id: uuid.UUID, result: Result) -> web.Response:
    match result.outcome:
        case Outcome.READY:
            found = {"light": light_of(result.freshness), "products": products(result.freshness)}
            return answer({"item_id": item_id, "status": "ready"} | found)
        case Outcome.INCOMPLETE:
            found = {"missing": result.missing}
            return answer({"item_id": item_id, "status": "waiting"} | found, 202)
        case Outcome.DELETED:
            raise deleted()
        case Outcome.UNKNOWN:
            raise unknown()
        case Outcome.STOPPING:
            raise unavailable("stopping", "this process stops: ask again")
        case Outcome.TOO_MANY:
            raise unavailable("too_many_waits", "as many clients wait as can: ask again")
        case Outcome.UNAVAILABLE:
            raise unavailable("postgres_away", "Postgres did not answer until the time-out")


def _parameters(request: web.Request) -> dict[str, Any]:
    """Raises Refused: 400."""
    query = request.query
    if not PARAMETERS.issuperset(query) or len(query) != len(set(query)):
        raise _malformed("the parameters are timeout, event_id and since, each once at most")
    if "event_id" in query and "since" in query:
        raise _malformed("give event_id or since, not both")
    found: dict[str, Any] = {"timeout_s": _timeout_s(query.get("timeout"))}
    if "event_id" in query:
        found["event_id"] = _event_id(query["event_id"])
    if "since" in query:
        found["since"] = _since(query["since"])
    return found


def _timeout_s(text: str | None) -> float:
    if text is None:
        return DEFAULT_TIMEOUT_S
    if not SECONDS.fullmatch(text) or float(text) > MAX_TIMEOUT_S:
        raise _malformed(f"timeout is a number of seconds, from 0 to {MAX_TIMEOUT_S:g}")
    return float(text)


def _event_id(text: str) -> str:
    if not text or len(text) > MAX_EVENT_ID_LENGTH:
        raise _malformed(f"event_id has 1 to {MAX_EVENT_ID_LENGTH} characters")
    return clean_text(text)


def _since(text: str) -> datetime:
    since = parse_time(text) if RFC_3339.fullmatch(text) else None
    if since is None:
        raise _malformed("since is a time of RFC 3339, such as 2026-01-31T12:00:00Z")
    return since


def _malformed(detail: str) -> Refused:
    return Refused(400, "malformed_parameter", detail)
