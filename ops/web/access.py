"""Access to the ops process: Host, Origin, token, and the CSRF token of its own pages.

On loopback reading is open to this machine, and closed to pages of other sites: Host has to name
this machine, which DNS rebinding cannot. Everything else takes `Authorization: Bearer <OPS_TOKEN>`.
Where no token is set, an action needs none, but from a browser the CSRF token of a page of ours.
On another address every request needs the token, but for the probes. The search by clientUserId
needs it everywhere. For reading, a browser may send it as a password (Basic); an action takes it as
Bearer only, which no browser sends by itself.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from ops.web.responses import MAX_BODY_BYTES, Refused, read_body
from webhook_receiver.responses import Handler
from worker.infra.settings import is_loopback

READING: Final = ("GET", "HEAD")
PROBES: Final = ("/livez", "/readyz")
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"
FORM: Final = "application/x-www-form-urlencoded"
OF_ANY_PAGE: Final = (FORM, "multipart/form-data", "text/plain")
SEARCHED: Final = "user"
"""The parameter of the page that holds a clientUserId."""
OF_BROWSERS: Final = frozenset({"Origin", "Referer", "Cookie", "Sec-Fetch-Site"})
SAME_SITE: Final = ("same-origin", "none")
"""Sec-Fetch-Site of our own pages, and of an address that a person has typed."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one process. is_local: it listens on loopback only.

    csrf_token: of this process; only pages of this origin can read it.
    """

    is_local: bool
    token: str | None = field(repr=False)
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    async def check(self, request: web.Request) -> None:
        """Raises Refused: 401, 403, 421."""
        self._check_host(request)
        reads = request.method in READING
        if not reads:
            _check_origin(request)
        if self._bears_token(request) or (reads and self._has_password(request)):
            return
        if is_search(request):
            raise self._search_needs_token()
        if not self._is_open(request, reads):
            raise _unauthorized()
        if not reads and _is_from_page(request):
            await self._check_csrf(request)

    def _check_host(self, request: web.Request) -> None:
        if self.is_local and not is_loopback(_host_name(request.host)):
            raise Refused(
                421, "misdirected_request", "this process answers to the names of its own machine"
            )

    def _bears_token(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self.token is None or scheme.lower() != "bearer":
            return False
        return _equal(given.strip(), self.token)

    def _has_password(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self.token is None or scheme.lower() != "basic":
            return False
        try:
            user_and_password = base64.b64decode(given, validate=True).decode()
        except ValueError:
            return False
        return _equal(user_and_password.partition(":")[2], self.token)

    def _search_needs_token(self) -> Refused:
        if self.token is None:
            return Refused(403, "no_token", "the search by clientUserId needs OPS_TOKEN to be set")
        return _unauthorized('Basic realm="any user, OPS_TOKEN as the password"')

    def _is_open(self, request: web.Request, reads: bool) -> bool:
        if not self.is_local:
            return request.path in PROBES and reads
        return reads or self.token is None

    async def _check_csrf(self, request: web.Request) -> None:
        given = request.headers.get(CSRF_HEADER)
        if given is None and request.content_type == FORM:
            given = await _form_field(request, CSRF_FIELD)
        if given is None or not _equal(given, self.csrf_token):
            raise Refused(403, "csrf", "the page is out of date: load it again")


def is_search(request: web.Request) -> bool:
    """Whether a request names a clientUserId, which may be personal."""
    return request.path == "/" and SEARCHED in request.query


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the access of every request."""
    await request.app[ACCESS].check(request)
    return await handler(request)


ACCESS: Final = web.AppKey("access", Access)


async def _form_field(request: web.Request, name: str) -> str | None:
    """A field of a form, None if it cannot be read; the handler can read its body again.

    Raises Refused."""
    await read_body(request)
    try:
        value = (await request.post()).get(name)
    except (LookupError, UnicodeDecodeError):
        return None
    return value if isinstance(value, str) and len(value) <= MAX_BODY_BYTES else None


def _check_origin(request: web.Request) -> None:
    """Refuse what another site has a browser send."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in SAME_SITE or (origin is not None and urlsplit(origin).netloc != request.host):
        raise Refused(403, "cross_origin", "actions are not taken from pages of other sites")


def _is_from_page(request: web.Request) -> bool:
    """Whether a browser may have sent it: for a page, with a header that no other client sends, or
    as one of the types that any page may send anywhere."""
    simple = "Content-Type" in request.headers and request.content_type in OF_ANY_PAGE
    return simple or not OF_BROWSERS.isdisjoint(request.headers)


def _host_name(host: str) -> str:
    """The name of a Host header, without port and brackets; empty if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return ""
    return parts.hostname or "" if parts.netloc == host and "@" not in host else ""


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time, whatever characters are given."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _unauthorized(challenge: str = "Bearer") -> Refused:
    return Refused(
        401,
        "unauthorized",
        "send Authorization: Bearer with the token of OPS_TOKEN",
        **{"WWW-Authenticate": challenge},
    )
