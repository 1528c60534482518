"""JSON answers and errors, the headers of every answer, and bodies of requests within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from webhook_receiver.responses import Handler, send_continue
from worker.infra.http_server import SAFE_HEADERS

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 3.0
RETRY_AFTER_S: Final = "5"
CSP: Final = "Content-Security-Policy"
PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)

_encode: Final[Callable[[object], bytes]] = msgspec.json.Encoder(
    enc_hook=str, decimal_format="number"
).encode


class Refused(Exception):
    """A request is refused: the answer's status, and what stands in it."""

    def __init__(self, status: int, error: str, detail: str, **headers: str) -> None:
        super().__init__(error)
        self.status, self.error, self.detail, self.headers = status, error, detail, headers


def answer(document: object, status: int = 200, **headers: str) -> web.Response:
    """A JSON answer: times as RFC 3339."""
    return web.Response(
        body=_encode(document), status=status, content_type="application/json", headers=headers
    )


def unavailable(error: str, detail: str) -> Refused:
    """503 for a while."""
    return Refused(503, error, detail, **{"Retry-After": RETRY_AFTER_S})


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Before an answer is sent, whoever has made it; a page may have a policy of its own."""
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals, aiohttp's own errors and unexpected exceptions into JSON."""
    try:
        return await handler(request)
    except Refused as refused:
        return _error(refused.status, refused.error, refused.detail, refused.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        name = error.reason.lower().replace(" ", "_").replace("-", "_")
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _error(error.status, name, error.reason, allowed)
    except Exception as error:
        log.exception("ops_request_failed", error=type(error).__name__)
        return _error(500, "internal_error", "the request failed; the log says where", {})


def _error(status: int, error: str, detail: str, headers: dict[str, str]) -> web.Response:
    return answer({"error": error, "detail": detail}, status, **headers)


async def read_document(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request. Raises Refused: 400, 408, 413, 415."""
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise Refused(415, "unsupported_media_type", "send JSON as application/json, not encoded")
    try:
        document = msgspec.json.decode(await read_body(request))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "malformed_body", "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(400, "malformed_body", "the body is not a JSON object")
    return document


async def read_body(request: web.Request) -> bytes:
    """The body of a request. Raises Refused: 400, 408, 413."""
    too_large = Refused(
        413, "payload_too_large", f"the body is larger than {MAX_BODY_BYTES // 1024} KiB"
    )
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            await send_continue(request)
            return await request.read()
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_TIMEOUT_S:g} seconds"
        raise Refused(408, "request_timeout", detail) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except (web.RequestPayloadError, OSError):  # bad chunks, or the client is gone
        raise Refused(400, "malformed_body", "the body did not arrive as announced") from None
