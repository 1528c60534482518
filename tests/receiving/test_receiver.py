"""The receiver over real HTTP: every answer of its contract."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arq.connections import ArqRedis

from tests.support.receiver import HEADER, SECRET, Doorway, event_body, open_receiver, stored_bodies
from tests.support.shared_database import database_from, delete_events
from tests.support.waiting import until
from webhook_receiver.app import ANSWER_TIMEOUT_S, BODY_TIMEOUT_S, MAX_BODY_BYTES
from webhook_receiver.origins import Authenticator, Origins, parse_networks
from worker.infra.postgres import Pool

OTHER_SECRET = "another-secret-while-rotating"  # noqa: S105 - of the tests


@pytest.fixture(scope="module")
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    async with database_from(template, postgres_url) as url:
        yield url


@pytest.fixture(autouse=True)
async def nothing_accepted_yet(db: Pool) -> None:
    await delete_events(db)


@pytest.fixture
async def doorway(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(database_url, redis_url, patient=True) as doorway:
        yield doorway


# Answers


async def test_an_event_is_accepted_once_and_then_a_duplicate(doorway: Doorway, db: Pool) -> None:
    body = json.dumps(event_body()).encode()
    first, second = await doorway.deliver(body), await doorway.deliver(body)
    assert (first.status, first.body) == (202, {"status": "accepted"})
    assert (second.status, second.body) == (202, {"status": "duplicate"})
    assert await stored_bodies(db) == [body]


async def test_a_payment_event_is_accepted(doorway: Doorway) -> None:
    assert (await doorway.deliver(event_body(event="boleto/updated"))).body == {
        "status": "accepted"
    }


@pytest.mark.parametrize("fields", [{"event": "item/renamed"}, {"itemId": "17"}])
async def test_what_cannot_be_read_is_kept(
    doorway: Doorway, db: Pool, fields: dict[str, Any]
) -> None:
    reply = await doorway.deliver(event_body(**fields))
    assert (reply.status, reply.body) == (202, {"status": "kept"})
    assert len(await stored_bodies(db)) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"event": "item/updated", "x": NaN}', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b"{}", "no event string"),
    ],
)
async def test_what_is_no_event_is_refused_and_not_stored(
    doorway: Doorway, db: Pool, body: bytes, detail: str
) -> None:
    reply = await doorway.deliver(body)
    assert (reply.status, reply.body) == (400, {"error": "malformed_event", "detail": detail})
    assert await stored_bodies(db) == []


@pytest.mark.parametrize(
    "odd", [b'"\\u0000"', b'"\\ud800"', b"1e200000", b"1" * 5000, b'{"a": 1, "a": 2}']
)
async def test_odd_bodies_are_stored_as_they_came(doorway: Doorway, db: Pool, odd: bytes) -> None:
    body = b'{"event": "item/updated", "itemId": "%s", "odd": %s}'
    body %= (str(uuid.uuid4()).encode(), odd)
    assert (await doorway.deliver(body)).status == 202
    assert await stored_bodies(db) == [body]


async def test_a_body_of_four_mebibytes_is_taken_and_one_byte_more_is_not(
    doorway: Doorway, db: Pool
) -> None:
    start = json.dumps(event_body()).encode()[:-1] + b', "padding": "'
    body = start + b"x" * (MAX_BODY_BYTES - len(start) - 2) + b'"}'
    assert len(body) == 4 * 1024 * 1024
    assert (await doorway.deliver(body)).status == 202
    reply = await doorway.deliver(body + b" ")
    assert (reply.status, reply.body["error"]) == (413, "payload_too_large")
    assert await stored_bodies(db) == [body]


async def test_a_chunked_body_that_grows_too_large_is_refused(doorway: Doorway) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 65_536

    reply = await doorway.call("POST", "/webhooks/pluggy", data=chunks(), headers={HEADER: SECRET})
    assert reply.status == 413


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "x"])
async def test_the_media_type_does_not_matter(doorway: Doorway, kind: str) -> None:
    body = json.dumps(event_body()).encode()
    media_type = b"Content-Type: %s\r\n" % kind.encode() if kind else b""
    answer = await doorway.speak(
        b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s"
        % (media_type, HEADER.encode(), SECRET.encode(), len(body), body)
    )
    assert answer.startswith(b"HTTP/1.1 202 ")


async def test_a_chunked_body_is_taken(doorway: Doorway, db: Pool) -> None:
    body = json.dumps(event_body()).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    reply = await doorway.call("POST", "/webhooks/pluggy", data=chunks(), headers={HEADER: SECRET})
    assert reply.status == 202
    assert await stored_bodies(db) == [body]


async def test_a_body_that_is_not_what_its_headers_say_is_refused(doorway: Doorway) -> None:
    wire = b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n{}\r\n0\r\n\r\n"
    answer = await doorway.speak(
        b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s: %s\r\n%s"
        % (HEADER.encode(), SECRET.encode(), wire)
    )
    assert answer.split()[1] == b"400"


@pytest.mark.parametrize("dripping", [True, False])
async def test_a_body_that_does_not_arrive_in_time_is_answered_408(
    database_url: str, redis: ArqRedis, redis_url: str, dripping: bool
) -> None:
    async def drips() -> AsyncIterator[bytes]:
        yield b'{"event":'
        while True:
            await asyncio.sleep(0.02)
            if dripping:
                yield b" "

    async with open_receiver(database_url, redis_url, body_timeout_s=0.3) as doorway:
        reply = await doorway.call(
            "POST", "/webhooks/pluggy", data=drips(), headers={HEADER: SECRET}
        )
    assert (reply.status, reply.body["error"]) == (408, "request_timeout")


def test_a_body_has_three_seconds_and_every_answer_four() -> None:
    assert (BODY_TIMEOUT_S, ANSWER_TIMEOUT_S < 4) == (3, True)


# Who may deliver


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
@pytest.mark.parametrize("way", ["header", "path"])
async def test_both_secrets_open_the_door_while_rotating(
    database_url: str, redis: ArqRedis, redis_url: str, secret: str, way: str
) -> None:
    async with open_receiver(
        database_url, redis_url, patient=True, secrets=[OTHER_SECRET, SECRET]
    ) as doorway:
        if way == "header":
            reply = await doorway.deliver(event_body(), secret=secret)
        else:
            reply = await doorway.deliver(event_body(), secret=None, path=f"/{secret}")
    assert reply.status == 202


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        " ",
        SECRET[:-1],
        SECRET + "x",
        SECRET.upper(),
        f"{SECRET},{OTHER_SECRET}",
        "schlüssel-für-alles",
        "\u5bc6\u7801",
        "null",
    ],
)
@pytest.mark.parametrize("way", ["header", "path"])
async def test_any_other_secret_is_refused(
    doorway: Doorway, db: Pool, secret: str | None, way: str
) -> None:
    if way == "header":
        reply = await doorway.deliver(event_body(), secret=secret)
    elif secret in (None, ""):
        reply = await doorway.deliver(event_body(), secret=None)
    else:
        reply = await doorway.deliver(event_body(), secret=None, path=f"/{secret}")
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert await stored_bodies(db) == []


async def test_a_secret_of_any_bytes_is_refused_not_stumbled_over(doorway: Doorway) -> None:
    odd = bytes(range(0x80, 0x100))
    answer = await doorway.speak(
        b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s: %s\r\n"
        b"Content-Length: 2\r\n\r\n{}" % (HEADER.encode(), odd)
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/%ED%A0%80", "/%FF%FE%FD", "/%00", "/%2e%2e", "/%C3%BC"])
async def test_a_path_of_any_bytes_is_refused_not_stumbled_over(
    doorway: Doorway, path: str
) -> None:
    answer = await doorway.speak(
        b"POST /webhooks/pluggy%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: 2\r\n\r\n{}" % path.encode()
    )
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 404 "))


@pytest.mark.parametrize(
    ("secret", "path"),
    [
        ("with space and +plus", "/with%20space%20and%20+plus"),
        ("base64/with/slashes==", "/base64%2Fwith%2Fslashes=="),
        ("percent%41percent%2F", "/percent%2541percent%252F"),
        ("umlauts-äöüß-umlauts", "/umlauts-%C3%A4%C3%B6%C3%BC%C3%9F-umlauts"),
        ("question?and#hash&amp", "/question%3Fand%23hash&amp"),
        ("{braces}-and-{others}", "/%7Bbraces%7D-and-%7Bothers%7D"),
    ],
)
async def test_a_secret_of_odd_characters_works_in_path_and_header(
    database_url: str, redis: ArqRedis, redis_url: str, secret: str, path: str
) -> None:
    async with open_receiver(database_url, redis_url, patient=True, secrets=[secret]) as doorway:
        assert (await doorway.deliver(event_body(), secret=secret)).status == 202
        answer = await doorway.speak(
            b"POST /webhooks/pluggy%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: 2\r\n\r\n{}" % path.encode()
        )
    # Past the lock; the body is no event.
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_the_header_of_the_secret_can_have_another_name(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    async with open_receiver(
        database_url, redis_url, patient=True, header="Authorization"
    ) as doorway:
        reply = await doorway.deliver(event_body(), secret=None, Authorization=SECRET)
        usual = await doorway.deliver(event_body(), secret=SECRET)
    assert (reply.status, usual.status) == (202, 401)


async def test_a_stranger_is_refused_before_the_body_is_read(doorway: Doorway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", doorway.port)
    writer.write(b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n{")
    async with asyncio.timeout(60):
        line = await reader.readline()
    writer.close()
    assert line == b"HTTP/1.1 401 Unauthorized\r\n"


def test_nothing_is_a_secret_where_none_is_known() -> None:
    assert not any(Authenticator([]).accepts(secret) for secret in (None, "", SECRET))
    assert not any(Authenticator([SECRET]).accepts(secret) for secret in (None, "", "x"))


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ({}, 401),
        ({"X-Forwarded-For": "52.67.145.81"}, 202),
        ({"X-Forwarded-For": "10.9.9.9, 52.67.145.81"}, 202),
        ({"X-Forwarded-For": "52.67.145.81, 10.9.9.9"}, 401),
        ({"X-Forwarded-For": "52.67.145.81, nonsense"}, 401),
    ],
)
async def test_deliveries_are_taken_from_allowed_addresses_only(
    database_url: str, redis: ArqRedis, redis_url: str, forwarded: dict[str, str], status: int
) -> None:
    origins = Origins(parse_networks("52.67.145.81"), parse_networks("127.0.0.0/8, ::1"))
    async with open_receiver(database_url, redis_url, patient=True, origins=origins) as doorway:
        assert (await doorway.deliver(event_body(), **forwarded)).status == status
        # The company's own code registers from anywhere.
        registration = {"itemId": str(uuid.uuid4())}
        reply = await doorway.call(
            "POST", "/items", json=registration, headers={HEADER: SECRET, **forwarded}
        )
    assert reply.status == 202


@pytest.mark.parametrize(
    ("peer", "forwarded", "admitted"),
    [
        ("192.0.2.7", [], True),
        ("192.0.2.8", [], False),
        ("::ffff:192.0.2.7", [], True),
        ("2001:db8::5", [], True),
        (None, [], False),
        ("192.0.2.8", ["192.0.2.7"], False),
        ("10.0.0.1", ["192.0.2.7"], True),
        ("10.0.0.1", ["198.51.100.1", "192.0.2.7, 10.0.0.2"], True),
        ("10.0.0.1", ["192.0.2.7", "198.51.100.1"], False),
        ("10.0.0.1", [], False),
        ("10.0.0.1", ["192.0.2.7:4711"], True),
        ("10.0.0.1", ["192.0.2.8:4711"], False),
        ("10.0.0.1", ["192.0.2.7:4711, 10.0.0.2:80"], True),
        ("10.0.0.1", ["192.0.2.7, ,"], True),
        ("10.0.0.1", ["::ffff:192.0.2.7"], True),
        ("10.0.0.1", ["[::ffff:192.0.2.7]:443"], True),
        ("10.0.0.1", ["2001:db8::5"], True),
        ("10.0.0.1", ["[2001:db8::5]"], True),
        ("10.0.0.1", ["[2001:db8::5]:443"], True),
        ("10.0.0.1", ['"[2001:db8::5]:443"'], True),
        ("10.0.0.1", ["[2001:db9::5]:443"], False),
        ("::ffff:10.0.0.1", ["192.0.2.7:80"], True),
        *(
            ("10.0.0.1", [junk], False)
            for junk in (
                "192.0.2.7:",
                "192.0.2.7:http",
                "192.0.2.7:123456",
                ":4711",
                "[192.0.2.7",
                "[]:80",
                "unknown",
                "_hidden",
                "192.0.2.7 192.0.2.7",
                "192.0.2.7;",
                "192.0.2",
                "\u0661\u0669\u0662.0.2.7",
            )
        ),
    ],
)
def test_a_sender_is_the_last_hop_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: list[str], admitted: bool
) -> None:
    origins = Origins(parse_networks("192.0.2.7, 2001:db8::/32"), parse_networks("10.0.0.0/8"))
    assert origins.admit(peer, forwarded) is admitted
    assert Origins().admit(peer, forwarded)


@pytest.mark.parametrize(
    ("networks", "sender", "admitted"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "::ffff:192.0.2.9", True),
        ("::ffff:192.0.2.0/120", "192.0.3.9", False),
        ("::/0", "2001:db8::5", True),
    ],
)
def test_a_network_of_mapped_addresses_is_one_of_ipv4(
    networks: str, sender: str, admitted: bool
) -> None:
    assert Origins(parse_networks(networks)).admit(sender, []) is admitted


# Registration


async def test_an_item_is_registered_once(doorway: Doorway, db: Pool) -> None:
    item_id = uuid.uuid4()
    statuses = [
        (await doorway.call("POST", "/items", json=body, headers={HEADER: SECRET})).body["status"]
        for body in ({"itemId": str(item_id)}, {"itemId": str(item_id).upper(), "more": 1})
    ]
    assert statuses == ["accepted", "duplicate"]
    row = await db.fetchrow("SELECT event, item_id, state FROM pluggy_sync.webhook_events")
    assert row is not None
    assert tuple(row) == ("sync/register", item_id, "pending")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"itemId": "17"}', b"[" * 100_000])
async def test_a_registration_without_item_is_refused(doorway: Doorway, body: bytes) -> None:
    reply = await doorway.call("POST", "/items", data=body, headers={HEADER: SECRET})
    assert (reply.status, reply.body["error"]) == (400, "malformed_event")


async def test_a_registration_needs_the_secret(doorway: Doorway) -> None:
    reply = await doorway.call("POST", "/items", json={"itemId": str(uuid.uuid4())})
    assert reply.status == 401


# Other paths


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/", 404, "not_found"),
        ("POST", "/webhooks", 404, "not_found"),
        ("POST", "/webhooks/pluggy/", 404, "not_found"),
        ("POST", "/webhooks/pluggy/a/b", 404, "not_found"),
        ("GET", "/webhooks/pluggy", 405, "method_not_allowed"),
        ("PUT", "/webhooks/pluggy", 405, "method_not_allowed"),
        ("DELETE", f"/webhooks/pluggy/{SECRET}", 405, "method_not_allowed"),
        ("GET", "/items", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
    ],
)
async def test_unknown_paths_and_methods_are_answered_in_json(
    doorway: Doorway, method: str, path: str, status: int, error: str
) -> None:
    reply = await doorway.call(method, path, headers={HEADER: SECRET})
    assert (reply.status, reply.body["error"]) == (status, error)
    assert set(reply.body) == {"error", "detail"}
    assert ("Allow" in reply.headers) is (status == 405)


async def test_a_ready_receiver_says_so(doorway: Doorway) -> None:
    for path in ("/livez", "/readyz"):
        reply = await doorway.call("GET", path)
        assert (reply.status, reply.body) == (200, {"status": "ok"})


async def test_a_database_that_is_not_migrated_is_not_ready(
    empty_database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    async with open_receiver(empty_database_url, redis_url, patient=True) as doorway:
        ready = await doorway.call("GET", "/readyz")
        reply = await doorway.deliver(event_body())
    assert (ready.status, ready.body["error"]) == (503, "postgres_not_migrated")
    assert (reply.status, reply.body["error"]) == (503, "unavailable")
    assert "Undefined" not in json.dumps([ready.body, reply.body])


async def test_a_receiver_that_stores_nothing_any_more_is_not_alive(doorway: Doorway) -> None:
    doorway.services.intake.close()

    async def is_dead() -> bool:
        return (await doorway.call("GET", "/livez")).status == 503

    await until(is_dead)
    assert (await doorway.deliver(event_body())).status == 503


async def test_metrics_count_deliveries_by_answer(doorway: Doorway) -> None:
    series, body = 'pluggy_sync_deliveries_total{answer="duplicate"}', event_body()
    before = await doorway.metric(series)
    for _ in range(3):
        await doorway.deliver(body)
    assert await doorway.metric(series) == before + 2
