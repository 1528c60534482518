"""Handle unknown paths, wrong methods and the Expect header."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from webhook_receiver.responses import refusal


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
