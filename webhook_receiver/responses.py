"""JSON error responses of the receiver: an error name and a sentence, nothing internal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

log = structlog.get_logger()

RETRY_AFTER_S: Final = "5"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(status: int, error: str, detail: str, **headers: str) -> web.Response:
    """An error answer of the contract."""
    return web.json_response({"error": error, "detail": detail}, status=status, headers=headers)


def unavailable() -> web.Response:
    """503: the event is not stored. Pluggy repeats a delivery up to nine times."""
    return refusal(
        503,
        "unavailable",
        "the event could not be stored; send it again",
        **{"Retry-After": RETRY_AFTER_S},
    )


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn aiohttp's own errors (unknown path, method) and unexpected exceptions into JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        name = error.reason.lower().replace(" ", "_").replace("-", "_")
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return refusal(error.status, name, error.reason, **allowed)
    except Exception as error:
        log.exception("receiver_failed", error=type(error).__name__)
        return unavailable()
