"""JSON error responses (a name and a sentence, nothing internal), unknown paths, and Expect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import HttpVersion11, web

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


async def handle_expect(request: web.Request) -> web.StreamResponse | None:
    """Refuse every expectation but 100-continue, which send_continue() answers later.

    aiohttp's own handler runs before our checks, echoes the header, and fails on some bytes.
    """
    if _expects(request) not in ("", "100-continue"):
        return refusal(417, "expectation_failed", "only 100-continue can be expected")
    return None


async def send_continue(request: web.Request) -> None:
    """Send 100 Continue, if the client expects it."""
    if _expects(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp counts the bytes of the final response only.
        request.writer.output_size = 0


def _expects(request: web.Request) -> str:
    """The Expect header, in lower case; HTTP/1.0 has none."""
    return request.headers.get("Expect", "").lower() if request.version == HttpVersion11 else ""


async def not_found(request: web.Request) -> web.StreamResponse:
    """Fallback route: 404, or 405 for a wrong method; it also has our Expect handler."""
    methods: set[str] = set()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed - {"*"}
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)
    raise web.HTTPNotFound
