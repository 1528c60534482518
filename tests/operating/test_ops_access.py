"""Access to the ops process: Host, Origin, token, CSRF token, and the headers of answers."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from ops.web.access import CSRF_FIELD, CSRF_HEADER
from tests.support.ops import BEARER, TOKEN, OpsClient, open_ops
from worker.infra.http_server import SAFE_HEADERS

NOWHERE = "postgresql://somebody@127.0.0.1:9/x"
NO_REDIS = "redis://127.0.0.1:9/0"
ANYWHERE = "0.0.0.0"  # noqa: S104 - its rules only; the test listens on loopback
ITEM = f"/v1/items/{uuid.UUID(int=1)}"
ACTION = "/v1/dead-letters/x/requeue"
READS = ("/", "/style.css", ITEM, f"{ITEM}/wait?timeout=0", "/metrics", "/livez", "/readyz")
ACTIONS = (ACTION, "/v1/connect-tokens", "/nowhere")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REFUSED = (401, 403, 421)


@asynccontextmanager
async def opened(*, token: str | None = None, host: str = "127.0.0.1") -> AsyncIterator[OpsClient]:
    """An ops process that needs no server: what is let in is answered 503 or 400."""
    async with open_ops(NOWHERE, NO_REDIS, token=token, host=host) as client:
        yield client


async def status(client: OpsClient, method: str, path: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.call(method, path, headers=named)).status


async def test_reading_is_open_on_loopback_and_actions_need_the_token() -> None:
    async with opened(token=TOKEN) as client:
        for path in READS:
            assert await status(client, "GET", path) not in REFUSED, path
        for path in ACTIONS:
            for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                reply = await client.call("POST", path, headers=wrong)
                assert (reply.status, reply.body["error"]) == (401, "unauthorized"), path
                assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert await status(client, "POST", path, **BEARER) not in REFUSED, path


@pytest.mark.parametrize("path", [*READS, "/connect.js", "/nowhere"])
async def test_head_is_answered_as_get_is_but_for_the_body(path: str) -> None:
    async with opened() as client:
        got = await client.call("GET", path)
        async with client.session.head(client.url + path) as head:
            assert (head.status, await head.read()) == (got.status, b"")
            assert head.headers["Content-Type"] == got.headers["Content-Type"]


async def test_elsewhere_everything_but_the_probes_needs_the_token() -> None:
    async with opened(token=TOKEN, host=ANYWHERE) as client:
        for method, paths in (("GET", READS), ("POST", ACTIONS)):
            for path in paths:
                is_probe = path in ("/livez", "/readyz")
                for wrong in ({}, {"Authorization": "Bearer " + TOKEN[:-1]}):
                    refused = await status(client, method, path, **wrong) == 401
                    assert refused is not is_probe, path
                assert await status(client, method, path, **BEARER) not in REFUSED, path


async def test_without_a_token_everything_is_open_to_this_machine() -> None:
    async with opened() as client:
        for path in READS:
            assert await status(client, "GET", path) not in REFUSED, path
        for path in ACTIONS:
            assert await status(client, "POST", path) not in REFUSED, path
        # A token that is not set is no token that anybody can name.
        assert await status(client, "POST", ACTION, Authorization="Bearer None") not in REFUSED


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8090", "127.0.0.1.evil.example", "localhost@evil", ""),
        *("evil@localhost", "localhost/evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/", ITEM, "/metrics", "/livez", "/nowhere"])
async def test_another_host_name_is_refused_on_loopback(host: str, path: str) -> None:
    async with opened(token=TOKEN) as client:
        reply = await client.call("GET", path, headers={"Host": host, **BEARER})
        assert reply.status in (400, 421), reply.body


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:1", "[::1]:8090"])
async def test_this_machine_s_names_are_taken(host: str) -> None:
    async with opened() as client:
        assert await status(client, "GET", "/livez", Host=host) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_actions_from_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    async with opened() as client:
        own = {CSRF_HEADER: client.services.access.csrf_token}
        for path in ACTIONS:
            reply = await client.call("POST", path, headers=headers | own)
            assert (reply.status, reply.body["error"]) == (403, "cross_origin")


async def test_an_action_from_a_page_needs_its_csrf_token() -> None:
    async with opened() as client:
        token = client.services.access.csrf_token
        from_page = {"Origin": client.url, "Sec-Fetch-Site": "same-origin"}
        for sent in (from_page, {"Referer": client.url}, {"Cookie": "a=b"}, FORM):
            for wrong in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: token[:-1]}):
                reply = await client.call("POST", ACTION, headers=sent | wrong)
                assert (reply.status, reply.body["error"]) == (403, "csrf"), sent
            assert await status(client, "POST", ACTION, **sent, **{CSRF_HEADER: token}) == 400
        for given, answered in ((token, 400), ("wrong", 403), ("", 403)):
            reply = await client.call("POST", ACTION, data={CSRF_FIELD: given}, headers=from_page)
            assert reply.status == answered
        for kind, data in ((";charset=x", b"csrf_token=x"), ("", b"csrf_token=\xff")):
            unreadable = {"Content-Type": FORM["Content-Type"] + kind}
            reply = await client.call("POST", ACTION, data=data, headers=unreadable)
            assert (reply.status, reply.body["error"]) == (403, "csrf")


async def test_the_token_takes_the_place_of_the_csrf_token_and_not_the_other_way() -> None:
    async with opened(token=TOKEN) as client:
        from_page = {"Origin": client.url}
        own = {CSRF_HEADER: client.services.access.csrf_token}
        assert await status(client, "POST", ACTION, **from_page, **BEARER) == 400
        assert await status(client, "POST", ACTION, **from_page, **own) == 401


def password(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def test_the_search_by_client_user_needs_the_token_everywhere() -> None:
    for host in ("127.0.0.1", ANYWHERE):
        async with opened(token=TOKEN, host=host) as client:
            for wrong in (
                {},
                password(f"me:{TOKEN}x"),
                password(TOKEN),
                {"Authorization": "Basic é"},
            ):
                reply = await client.call("GET", "/?user=ana", headers=wrong)
                assert (reply.status, reply.body["error"]) == (401, "unauthorized"), wrong
                assert reply.headers["WWW-Authenticate"].startswith("Basic ")
            for right in (BEARER, password(f"me:{TOKEN}"), password(f":{TOKEN}")):
                assert await status(client, "GET", "/?user=ana", **right) == 503
    async with opened() as client:
        for given in ({}, password("me:None"), password(":")):
            reply = await client.call("GET", "/?user=ana", headers=given)
            assert (reply.status, reply.body["error"]) == (403, "no_token")


async def test_a_browser_s_password_allows_reading_and_no_action() -> None:
    async with opened(token=TOKEN, host=ANYWHERE) as client:
        assert await status(client, "GET", ITEM, **password(f"me:{TOKEN}")) == 503
        own = {CSRF_HEADER: client.services.access.csrf_token, "Origin": client.url}
        for path in ACTIONS:
            assert await status(client, "POST", path, **password(f"me:{TOKEN}"), **own) == 401


async def test_every_answer_has_the_headers_of_security() -> None:
    async with opened(token=TOKEN) as client:
        for method, path in (*(("GET", path) for path in READS), ("GET", "/x"), ("POST", ACTION)):
            headers = (await client.call(method, path)).headers
            policy = headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "script-src" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "Access-Control-Allow-Origin" not in headers


HOST = b"Host: localhost\r\n"
LONG = b"x" * 8000
MADE_BY_NO_HANDLER = {
    b"FOO /<script> HTTP/1.1\r\n" + HOST: 400,
    b"GET /<script>" + LONG * 2 + b" HTTP/1.1\r\n" + HOST: 400,
    b"GET /<script> HTTP/1.1\r\n" + HOST * 2: 400,
    b"POST /v1/items HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n<script>\r\n": 400,
    b"GET /livez HTTP/1.1\r\nExpect: <script>\r\n" + HOST: 417,
}


async def test_what_no_handler_answers_has_them_too_and_quotes_nothing() -> None:
    async with opened() as client:
        for sent, status in MADE_BY_NO_HANDLER.items():
            answer = await sent_as_it_is(client, sent + b"Connection: close\r\n\r\n")
            assert answer.split(maxsplit=2)[1] == b"%d" % status, answer
            for name in SAFE_HEADERS:
                assert b"\r\n%b: " % name.encode() in answer, answer
            assert b"script" not in answer


async def sent_as_it_is(client: OpsClient, data: bytes) -> bytes:
    """The answer to bytes that no HTTP client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(client.url).port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_no_preflight_is_answered_kindly() -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with opened() as client:
        reply = await client.call("OPTIONS", "/v1/connect-tokens", headers=asked)
        assert reply.status == 403
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_while_postgres_is_away_it_says_so_and_nothing_of_where() -> None:
    async with opened() as client:
        for path in ("/readyz", ITEM):
            reply = await client.call("GET", path)
            assert (reply.status, reply.body["error"]) == (503, "postgres_away")
            assert "127.0.0.1" not in str(reply.body)
        assert (await client.call("GET", "/livez")).status == 200
        page = await client.call("GET", "/")
        assert page.status == 503
        assert "postgres_away" in page.body
