"""What is not asked for right: unknown paths, methods and expectations."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from webhook_receiver.answers import refusal


async def meet(request: web.Request) -> web.StreamResponse | None:
    """Answer an `Expect` header. aiohttp's own answer repeats it, and stumbles over some bytes."""
    if request.version != HttpVersion11:
        return None
    if request.headers.get("Expect", "").lower() != "100-continue":
        return refusal(417, "expectation_failed", "only 100-continue can be expected")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # What comes now is the answer itself.
    request.writer.output_size = 0
    return None


async def unknown(request: web.Request) -> web.StreamResponse:
    """Stands behind all routes, so that these too meet expectations in our way."""
    methods: set[str] = set()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        methods |= allowed - {"*"}
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)
    raise web.HTTPNotFound
