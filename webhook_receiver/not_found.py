"""Handle unknown paths, wrong methods and the Expect header."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from webhook_receiver.responses import refusal


async def handle_expect(request: web.Request) -> web.StreamResponse | None:
    """Refuse every expectation but 100-continue, which send_continue() answers later.

    aiohttp's own answer comes before our checks, repeats the header, and stumbles over some bytes.
    """
    if _expects(request) not in ("", "100-continue"):
        return refusal(417, "expectation_failed", "only 100-continue can be expected")
    return None


async def send_continue(request: web.Request) -> None:
    """Tell whoever waits for it to send the body."""
    if _expects(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What comes now is the answer itself.
        request.writer.output_size = 0


def _expects(request: web.Request) -> str:
    """In HTTP/1.0 nothing can be expected."""
    return request.headers.get("Expect", "").lower() if request.version == HttpVersion11 else ""


async def not_found(request: web.Request) -> web.StreamResponse:
    """Stands behind all routes, so that these too meet expectations in our way."""
    methods: set[str] = set()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed - {"*"}
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)
    raise web.HTTPNotFound
