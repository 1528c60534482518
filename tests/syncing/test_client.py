"""The connection to Pluggy: keys, limits, time-outs, and every error in its class."""

import asyncio
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from arq.connections import ArqRedis

from tests.support.pluggy_stub import (
    PluggyStub,
    Said,
    WireStub,
    connected,
    give_up_after,
    reading,
)
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import CLIENT_ID, CLIENT_SECRET
from worker.infra.lanes import Lane
from worker.infra.redis_keys import PREFIX
from worker.lease.lease import LEASE
from worker.pluggy_api.client import CALL_TIMEOUT_S, PLAIN_PATHS, PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import (
    CursorRefused,
    Deferred,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    PluggyRefused,
    PluggyRejected,
    PluggyUnavailable,
    classify,
)
from worker.pluggy_api.http import Answer, Change, endpoint_group
from worker.pluggy_api.payloads import decode_object
from worker.pluggy_api.rate_limit import RateBudget

ITEM, ACCOUNT = uuid.UUID(int=1), uuid.UUID(int=2)
EXPIRED = [
    Said(401, {"code": 401, "message": "expired"}),
    Said(401, {"code": 401, "codeDescription": "WHATEVER"}),
    Said(403, {"code": 403, "message": "Missing or invalid authorization token"}),
    Said(403, {"code": 403, "codeDescription": "API_KEY_MISSING_OR_INVALID"}),
    Said(403, b"<html>403</html>"),
]


async def failure(url: str, redis: ArqRedis, **options: Any) -> PluggyError:
    """What a call for an item ends with."""
    async with reading(url, redis, **options) as reader:
        with pytest.raises(PluggyError) as caught:
            await reader.item(ITEM)
    return caught.value


# Keys


async def test_a_key_is_asked_for_once_and_used_by_all_calls(redis: ArqRedis) -> None:
    async with PluggyStub() as pluggy, reading(pluggy.url, redis) as reader:
        await asyncio.gather(*(reader.item(ITEM) for _ in range(20)))
        assert (pluggy.count("POST"), pluggy.count("GET")) == (1, 20)
        assert {asked.key for asked in pluggy.asked if asked.method == "GET"} == {"key-1"}
        assert reader.requests == 21


def age_key(client: PluggyClient, seconds: float) -> None:
    """Let time pass for the key."""
    key = client._key
    assert key is not None
    key.obtained_at -= seconds
    key.answered_at -= seconds
    key.vouched_at -= seconds


def age_refusals(client: PluggyClient, seconds: float) -> None:
    """Let time pass since the first refusal; less than none: none passes by itself for so long."""
    assert client._refusals.since is not None
    client._refusals.since -= seconds


def asked_for(pluggy: PluggyStub) -> list[tuple[str, str | None]]:
    return [(asked.path, asked.key) for asked in pluggy.asked]


refusals = pytest.mark.parametrize("refusal", EXPIRED, ids=["401", "401+", "403", "403+", "html"])
PLAIN, PLAIN_TOO = PLAIN_PATHS
ITEM_PATH = f"/items/{ITEM}"


@refusals
async def test_an_old_key_that_is_refused_is_renewed_once_and_the_call_repeated_once(
    redis: ArqRedis, refusal: Said
) -> None:
    async with PluggyStub(Said(), refusal, Said()) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.item(ITEM)
        age_key(reader.client, 61)
        await reader.item(ITEM)
        assert asked_for(pluggy) == [
            ("/auth", None),
            (ITEM_PATH, "key-1"),
            (ITEM_PATH, "key-1"),
            ("/auth", None),
            (ITEM_PATH, "key-2"),
        ]
        assert reader.requests == 5


@refusals
@pytest.mark.parametrize("age_s", [0, 50], ids=["just now", "in the minute"])
async def test_one_thing_that_refuses_an_answered_key_costs_no_renewal(
    redis: ArqRedis, refusal: Said, age_s: float
) -> None:
    plain = {"/loans": refusal}
    async with PluggyStub(paths=plain) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.item(ITEM)
        age_key(reader.client, age_s)
        for _ in range(3):
            with pytest.raises(PluggyRefused) as caught:
                await reader.rows(f"/loans?itemId={ITEM}")
        assert pluggy.count("POST") == 1
        # A plain thing is asked once for all that refuse within seconds.
        assert [path for path, _ in asked_for(pluggy)].count(PLAIN) == 1
    assert (caught.value.status, caught.value.endpoint) == (refusal.status, "GET /loans")
    assert classify(caught.value).failure_class == "refused"


@refusals
async def test_a_new_key_whose_first_use_is_refused_serves_the_same_call(
    redis: ArqRedis, refusal: Said
) -> None:
    async with PluggyStub(refusal, Said()) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.item(ITEM)
        keys = [("/auth", None), (ITEM_PATH, "key-1"), (PLAIN, "key-1"), (ITEM_PATH, "key-1")]
        assert asked_for(pluggy) == keys


@refusals
async def test_keys_that_everything_refuses_several_seconds_apart_halt(
    redis: ArqRedis, refusal: Said
) -> None:
    async with PluggyStub(refusal) as pluggy, reading(pluggy.url, redis) as reader:
        for attempt in range(5):  # all at once: one moment is no proof
            with pytest.raises(Deferred, match="key_refused") as deferred:
                await reader.item(ITEM)
            if attempt == 0:
                age_refusals(reader.client, -3600)
        assert deferred.value.wait_s >= 3
        assert pluggy.count("POST") == 1
        age_refusals(reader.client, 3603)
        with pytest.raises(PluggyHalt) as caught:
            await reader.item(ITEM)
        assert pluggy.count("POST") == 2
    assert (caught.value.code, caught.value.status) == ("key_refused", refusal.status)
    assert "dashboard" in caught.value.advice


async def test_the_same_key_given_again_is_refused_like_a_new_one(redis: ArqRedis) -> None:
    same = (Said(body={"apiKey": "always"}),)
    async with (
        PluggyStub(Said(403, {}), auth=same) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        with pytest.raises(Deferred, match="key_refused"):
            await reader.item(ITEM)
        age_refusals(reader.client, 3)
        with pytest.raises(PluggyHalt, match="key_refused"):
            await reader.item(ITEM)


@refusals
async def test_a_new_key_that_is_known_seconds_later_halts_nothing(
    redis: ArqRedis, refusal: Said
) -> None:
    async with (
        PluggyStub(refusal, refusal, refusal, Said()) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        with pytest.raises(Deferred, match="key_refused"):
            await reader.item(ITEM)
        age_refusals(reader.client, 3600)
        await reader.item(ITEM)
        await reader.item(ITEM)
        assert pluggy.count("POST") == 1


async def test_what_was_refused_before_an_answer_proves_nothing_later(redis: ArqRedis) -> None:
    refused = [Said(403, {})] * 3
    answers = [*refused, Said(), *refused, *refused, Said()]
    async with PluggyStub(*answers) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(Deferred, match="key_refused"):
            await reader.item(ITEM)
        age_refusals(reader.client, 3600)
        await reader.item(ITEM)
        # Now it was answered, and ran out: renewed, and the new one is refused for the first time.
        with pytest.raises(Deferred, match="key_refused"):
            await reader.item(ITEM)
        await reader.item(ITEM)


@pytest.mark.parametrize(
    "plain",
    [
        Said(200, {}),
        Said(404, {"codeDescription": "CONNECTOR_NOT_FOUND"}),
        Said(403, {"codeDescription": "NOT_FOR_YOU"}),
        Said(400, {"message": "must be a number"}),
        Said(410, {}),
    ],
    ids=["200", "404", "403 of its own", "400", "410"],
)
async def test_any_answer_to_the_key_of_either_plain_thing_proves_it(
    redis: ArqRedis, plain: Said
) -> None:
    for path, other in ((PLAIN, Said(500, {})), (PLAIN_TOO, Said(403, {}))):
        paths = {path: plain, "/connectors": other}
        async with (
            PluggyStub(Said(403, {}), paths=paths) as pluggy,
            reading(pluggy.url, redis) as reader,
        ):
            with pytest.raises(PluggyRefused):
                await reader.rows(f"/loans?itemId={ITEM}")
            await reader.client.probe(new_key=True, count=lambda: None)


async def test_a_plain_thing_that_fails_proves_nothing(redis: ArqRedis) -> None:
    paths = {"/connectors": Said(404, b"nginx"), PLAIN_TOO: Said(503, b"")}
    async with PluggyStub(Said(403, {}), paths=paths) as pluggy:
        error = await failure(pluggy.url, redis)
        async with connected(pluggy.url, redis) as client:
            with pytest.raises(PluggyUnavailable):
                await client.probe(new_key=False, count=lambda: None)
    assert type(error) is PluggyUnavailable


async def test_a_probe_asks_for_a_key_and_then_a_plain_thing(redis: ArqRedis) -> None:
    async with PluggyStub() as pluggy, connected(pluggy.url, redis) as client:
        for _ in range(2):
            await client.probe(new_key=True, count=lambda: None)
        await client.probe(new_key=False, count=lambda: None)
        assert asked_for(pluggy) == [
            ("/auth", None),
            (PLAIN, "key-1"),
            ("/auth", None),
            (PLAIN, "key-2"),
            (PLAIN, "key-2"),
        ]


@refusals
async def test_a_probe_that_all_refuse_halts_on(redis: ArqRedis, refusal: Said) -> None:
    async with PluggyStub(refusal) as pluggy, connected(pluggy.url, redis) as client:
        with pytest.raises(PluggyHalt, match="key_refused"):
            await client.probe(new_key=True, count=lambda: None)


async def test_concurrent_calls_with_a_key_that_ran_out_renew_it_once(redis: ArqRedis) -> None:
    refused = [Said(403, {"codeDescription": "API_KEY_MISSING_OR_INVALID"})] * 10
    async with (
        PluggyStub(Said(), *refused, Said()) as pluggy,
        connected(pluggy.url, redis) as client,
    ):
        readers = [PluggyReader(client, Lane.LIVE) for _ in range(10)]
        await readers[0].item(ITEM)
        age_key(client, 61)
        await asyncio.gather(*(reader.item(ITEM) for reader in readers))
        assert (pluggy.count("POST"), pluggy.count("GET")) == (2, 21)
        assert {asked.key for asked in pluggy.asked[-10:]} == {"key-2"}


@pytest.mark.parametrize("described", [True, False])
async def test_a_key_that_runs_out_in_use_is_renewed_and_no_call_fails(
    redis: ArqRedis, described: bool
) -> None:
    with SimulatorProcess(
        rate_limit=0, seed=3, key_ttl=60, describe_expired=described
    ) as simulator:
        item = simulator.post("/_simulator/items", {"transactions": 5})
        async with connected(simulator.url, redis) as client:
            reader = PluggyReader(client, Lane.LIVE)
            await reader.item(uuid.UUID(item["id"]))
            simulator.post("/_simulator/clock", {"advance": 61})
            await asyncio.gather(*(reader.item(uuid.UUID(item["id"])) for _ in range(5)))
        counts = simulator.get("/_simulator/requests")["endpoints"]
    assert counts["POST /auth"] == 2
    # The first, up to five that are refused, the second plain thing, and the five.
    assert 1 + 1 + 1 + 5 <= counts["GET /items/{id}"] <= 1 + 5 + 1 + 5


@pytest.mark.parametrize(
    "refusal",
    [
        Said(401, {"codeDescription": "CLIENT_KEYS_UNAUTHORIZED", "errorId": "e-1"}),
        Said(401, {"codeDescription": "CLIENT_DISABLED", "errorId": "e-1"}),
        Said(400, {"message": "clientId must be a UUID", "errorId": "e-1"}),
        Said(403, {"errorId": "e-1"}),
        Said(404, {"codeDescription": "NOT_FOUND", "errorId": "e-1"}),
        Said(410, {"codeDescription": "ENDPOINT_DEPRECATED", "errorId": "e-1"}),
    ],
    ids=["keys", "disabled", "400", "403", "404", "410"],
)
async def test_refused_credentials_halt_and_say_what_to_do(redis: ArqRedis, refusal: Said) -> None:
    async with PluggyStub(auth=(refusal,)) as pluggy:
        error = await failure(pluggy.url, redis)
        assert (pluggy.count("POST"), pluggy.count("GET")) == (1, 0)
    assert isinstance(error, PluggyHalt)
    assert (error.code, error.error_id) == (f"auth:{refusal.status}", "e-1")
    assert "PLUGGY_CLIENT_SECRET" in error.advice


async def test_the_simulator_refuses_wrong_credentials(redis: ArqRedis) -> None:
    with SimulatorProcess(rate_limit=0, client_id=CLIENT_ID, client_secret="right") as simulator:  # noqa: S106
        assert isinstance(await failure(simulator.url, redis, secret="wrong"), PluggyHalt)  # noqa: S106


@pytest.mark.parametrize(
    "answer",
    [
        Said(500, {}),
        Said(503, b"<html>"),
        Said(200, b"not JSON"),
        Said(200, {}),
        Said(200, {"apiKey": ""}),
        Said(200, {"apiKey": 5}),
        Said(200, {"apiKey": "two\r\nX-Lines: 1"}),
        Said(200, {"apiKey": "schlüssel"}),
        Said(200, []),
    ],
)
async def test_an_auth_that_fails_otherwise_is_tried_again_later(
    redis: ArqRedis, answer: Said
) -> None:
    async with PluggyStub(auth=(answer, Said(body={"apiKey": "good"}))) as pluggy:
        async with connected(pluggy.url, redis) as client:
            reader = PluggyReader(client, Lane.LIVE)
            with pytest.raises(PluggyUnavailable):
                await reader.item(ITEM)
            await reader.item(ITEM)
        assert pluggy.asked[-1].key == "good"


async def test_auth_has_a_rate_limit_too(redis: ArqRedis) -> None:
    async with PluggyStub(auth=(Said(429, {}, {"RateLimit-Reset": "17"}),)) as pluggy:
        error = await failure(pluggy.url, redis)
        assert isinstance(error, Deferred)
        assert error.wait_s == 17
        # Nobody tries again before.
        async with limited_client(pluggy.url, redis, 60_000) as client:
            with pytest.raises(Deferred):
                await PluggyReader(client, Lane.LIVE).item(ITEM)
        assert pluggy.count("POST") == 1


def limited_client(url: str, redis: ArqRedis, per_minute: int, **more: Any) -> PluggyClient:
    """A client whose budget is as Redis has it."""
    budget = RateBudget(redis, per_minute=per_minute)
    return PluggyClient(
        base_url=url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, budget=budget, **more
    )


# Classes of errors


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Said(404, {"codeDescription": "ITEM_NOT_FOUND"}), PluggyNotFound, "404:ITEM_NOT_FOUND"),
        (Said(404, b"nginx"), PluggyUnavailable, "404:no_code"),
        (Said(404, b'{"code": 404, "codeDesc'), PluggyUnavailable, "404:no_code"),
        (Said(404, {"code": 404}), PluggyRejected, "404:no_code"),
        (Said(403, {"codeDescription": "BALANCE_CONSENT_ERROR"}), PluggyRefused, "403:BALANCE"),
        (Said(400, {"message": "accountId must be a UUID"}), PluggyRejected, "400:no_code"),
        (Said(409, {"codeDescription": "X"}), PluggyRejected, "409:X"),
        (Said(408, {}), PluggyUnavailable, "408:"),
        (Said(500, {"codeDescription": "INTERNAL_SERVER_ERROR"}), PluggyUnavailable, "500:INT"),
        (Said(502, b"<html>"), PluggyUnavailable, "502:no_code"),
        (Said(503, b""), PluggyUnavailable, "503:no_code"),
        (Said(504, b"\xff\xfe"), PluggyUnavailable, "504:no_code"),
        (Said(302, b"", {"Location": "http://127.0.0.1:1/"}), PluggyUnavailable, "302:no_code"),
        (Said(204, b""), PluggyUnavailable, "204:no_code"),
        (Said(200, b"<html>"), PluggyUnavailable, "unreadable_answer"),
        (Said(200, b"[]"), PluggyUnavailable, "unreadable_answer"),
        (Said(200, b'{"id": "trunc'), PluggyUnavailable, "unreadable_answer"),
        (Said(410, {"codeDescription": "ENDPOINT_DEPRECATED"}), PluggyRefused, "410:ENDPOINT"),
    ],
)
async def test_every_answer_has_its_class(
    redis: ArqRedis, answer: Said, kind: type[PluggyError], code: str
) -> None:
    async with PluggyStub(answer) as pluggy:
        error = await failure(pluggy.url, redis)
        # One call: neither renewal nor repeat, no redirect followed.
        assert (pluggy.count("POST"), pluggy.count("GET")) == (1, 1)
    assert type(error) is kind
    assert error.code.startswith(code)
    assert classify(error).failure_class == kind.failure_class
    assert error.status == (answer.status if answer.status != 200 else 200)


async def test_pluggy_s_error_id_is_kept(redis: ArqRedis) -> None:
    said = Said(404, {"codeDescription": "ITEM_NOT_FOUND", "errorId": "support-needs-this"})
    async with PluggyStub(said) as pluggy:
        assert (await failure(pluggy.url, redis)).error_id == "support-needs-this"


WIRES = {
    "nothing": b"",
    "no HTTP": b"\x00\x01\x02",
    "bad status": b"HTTP/1.1 abc\r\n\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "big header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "bad gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nprivate\r\n",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("wire", list(WIRES.values()), ids=list(WIRES))
async def test_what_is_no_answer_at_all_is_tried_again_later(redis: ArqRedis, wire: bytes) -> None:
    async with WireStub(wire) as pluggy:
        error = await failure(pluggy.url, redis)
    assert type(error) is PluggyUnavailable
    # What aiohttp could not read it quotes, and logs print causes.
    assert "private" not in "".join(traceback.format_exception(error))


async def test_a_pluggy_that_cannot_be_reached_is_tried_again_later(redis: ArqRedis) -> None:
    error = await failure("http://127.0.0.1:1", redis)
    assert (type(error), error.code) == (PluggyUnavailable, "ClientConnectorError")
    error = await failure("http://nowhere.invalid", redis)
    assert type(error) is PluggyUnavailable


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503}),
        ("reset", {}),
        ("truncate", {}),
        ("garbage", {}),
        ("timeout", {"seconds": 30}),
        ("slow", {"seconds": 30}),
    ],
    ids=lambda value: str(value),
)
async def test_the_simulator_s_faults_are_retried_and_pass(
    redis: ArqRedis, quiet_simulator: SimulatorProcess, kind: str, options: dict[str, Any]
) -> None:
    item = await quiet_simulator.apost("/_simulator/items", {"transactions": 5})
    fault = {"match": "GET /items/*", "kind": kind, "times": 1, **options}
    async with reading(quiet_simulator.url, redis) as reader:
        await reader.rows(f"/accounts?itemId={uuid.UUID(item['id'])}")
        await quiet_simulator.apost("/_simulator/faults", fault)
        if "seconds" in options:
            give_up_after(reader.client, 1.0)
        with pytest.raises(PluggyUnavailable):
            await reader.item(uuid.UUID(item["id"]))
        give_up_after(reader.client, CALL_TIMEOUT_S)
        await quiet_simulator.adelete("/_simulator/faults")
        assert decode_object(await reader.item(uuid.UUID(item["id"])))["id"] == item["id"]


async def test_the_simulator_s_refusals_have_their_class(
    redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    async with connected(quiet_simulator.url, redis) as client:
        reader = PluggyReader(client, Lane.LIVE)
        with pytest.raises(PluggyNotFound, match="404:ITEM_NOT_FOUND"):
            await reader.item(uuid.uuid4())
        with pytest.raises(CursorRefused) as refused:
            await reader.next_transactions("?accountId=x&after=nonsense")
        assert refused.value.status == 400
        with pytest.raises(PluggyRefused, match="410:ENDPOINT_DEPRECATED"):
            await client.call(
                f"/transactions?accountId={ACCOUNT}", lane=Lane.LIVE, count=lambda: None
            )


# Limits

TEN_O_CLOCK = "Fri, 20 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"RateLimit-Reset": "7", "Retry-After": "60"}, 7),
        ({"Retry-After": "60"}, 60),
        ({"RateLimit-Reset": "soon", "Retry-After": "60"}, 60),
        ({"RateLimit-Reset": "nan", "Retry-After": "inf"}, 60),
        ({"RateLimit-Reset": "nan", "Retry-After": "9"}, 9),
        ({"Retry-After": "Fri, 20 Nov 2026 10:00:09 GMT", "Date": TEN_O_CLOCK}, 9),
        ({"Retry-After": "Fri, 20 Nov 2020 10:00:00 GMT"}, 0.5),
        ({"Retry-After": "Fri, 99 Nov"}, 60),
        ({"RateLimit-Reset": "-3"}, 0.5),
        ({"RateLimit-Reset": "0"}, 0.5),
        ({"RateLimit-Reset": "119"}, 119),
        # No group waits longer than two windows, and an epoch is no delay.
        ({"RateLimit-Reset": "3600"}, 120),
        ({"Retry-After": "85092"}, 120),
        ({"RateLimit-Reset": "3600", "Retry-After": "60"}, 60),
        ({"RateLimit-Reset": "1795168800"}, 60),
        ({"RateLimit-Reset": "1795168800", "Retry-After": "2"}, 2),
        ({"RateLimit-Reset": "1795168800123", "Retry-After": "2"}, 2),
        ({"RateLimit-Reset": "1e308", "Retry-After": "2"}, 2),
        ({}, 60),
    ],
    ids=str,
)
async def test_a_429_is_deferred_until_its_time_and_empties_the_bucket(
    redis: ArqRedis, headers: dict[str, str], wait_s: float
) -> None:
    said = Said(429, {"code": 429}, headers)
    async with PluggyStub(said) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(Deferred) as caught:
            await reader.item(ITEM)
        assert (caught.value.wait_s, caught.value.status) == (wait_s, 429)
        if wait_s > 2:
            with pytest.raises(Deferred) as deferred:
                await reader.item(ITEM)
            assert wait_s - 5 < deferred.value.wait_s <= wait_s
            assert pluggy.count("GET") == 1
    assert classify(caught.value).wait_s == wait_s


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "85092"}, 85092),
        ({"Retry-After": "85092", "RateLimit-Reset": "7"}, 85092),
        ({"Retry-After": "864000"}, 86400),
        ({"Retry-After": "1795168800"}, 60),
        ({"RateLimit-Reset": "7"}, 7),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:00 GMT", "Date": TEN_O_CLOCK}, 86400),
        ({}, 60),
    ],
    ids=str,
)
async def test_a_429_of_one_thing_leaves_its_group(
    redis: ArqRedis, headers: dict[str, str], wait_s: float
) -> None:
    said = Said(429, {"code": 429, "codeDescription": "ACCOUNT_OPEN_FINANCE_LIMIT"}, headers)
    paths = {f"/accounts/{ACCOUNT}": said}
    async with PluggyStub(paths=paths) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(Deferred) as caught:
            await reader.row(f"/accounts/{ACCOUNT}")
        assert (caught.value.code, caught.value.wait_s) == (
            "429:ACCOUNT_OPEN_FINANCE_LIMIT",
            wait_s,
        )
        assert caught.value.is_own
        await reader.row(f"/accounts/{ITEM}")


async def test_a_429_of_one_group_leaves_the_others(redis: ArqRedis) -> None:
    limited = Said(429, {}, {"RateLimit-Reset": "60"})
    rows = Said(body={"results": []})
    async with PluggyStub(limited, rows) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(Deferred):
            await reader.item(ITEM)
        assert (await reader.rows(f"/accounts?itemId={ITEM}")).rows == []


async def test_the_simulator_s_limit_is_kept_by_the_reset_it_sends(redis: ArqRedis) -> None:
    with SimulatorProcess(rate_limit=3, seed=3) as simulator:
        item = uuid.UUID(simulator.post("/_simulator/items", {"transactions": 5})["id"])
        async with reading(simulator.url, redis) as reader:
            # At most two windows are open while these are asked for.
            asking = (reader.item(item) for _ in range(10))
            answers = await asyncio.gather(*asking, return_exceptions=True)
    # Who comes after the first refusal is deferred by the empty bucket, without an answer.
    deferred = [answer for answer in answers if isinstance(answer, Deferred)]
    assert {answer.status for answer in deferred} >= {429}
    assert all(0 < answer.wait_s <= 61 for answer in deferred)
    assert {type(answer) for answer in answers} == {Deferred, bytes}


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/items/x", "items"),
        ("/accounts?itemId=x", "accounts"),
        ("/accounts/x", "accounts"),
        ("/v2/transactions?accountId=x", "transactions"),
        ("/transactions/x", "transactions"),
        ("/investments?itemId=x", "investments"),
        ("/investments/x", "investments"),
        ("/investments/x/transactions?page=2", "investment_transactions"),
        ("/categories", "categories"),
    ],
)
def test_each_endpoint_counts_in_its_group(path: str, group: str) -> None:
    assert endpoint_group(path) == group


# Time


def test_a_call_ends_well_within_the_lease() -> None:
    assert CALL_TIMEOUT_S == 20 < LEASE.total_seconds()


@pytest.mark.parametrize(
    ("answers", "auth"),
    [
        ([Said(wait_s=30)], ()),
        ([Said(401, {}), Said(wait_s=30)], ()),
        ([Said()], (Said(wait_s=30),)),
        # Each part is in time, all together are not.
        (
            [Said(401, {}, wait_s=0.4), Said(wait_s=0.4)],
            (Said(body={"apiKey": "k"}, wait_s=0.4),) * 3,
        ),
    ],
    ids=["call", "repeat", "auth", "all"],
)
async def test_a_whole_call_ends_in_time_with_all_that_belongs_to_it(
    redis: ArqRedis, answers: list[Said], auth: tuple[Said, ...]
) -> None:
    clock = asyncio.get_running_loop().time
    async with PluggyStub(*answers, auth=auth) as pluggy:
        started = clock()
        error = await failure(pluggy.url, redis, call_timeout_s=1.0)
        took_s = clock() - started
    assert (type(error), error.code) == (PluggyUnavailable, "timeout")
    # All parts in the last case take 1.6 s; a stalled one takes 30.
    assert 1.0 <= took_s < 25


async def test_waiting_for_the_budget_counts_too(redis: ArqRedis) -> None:
    async with (
        PluggyStub() as pluggy,
        # From empty, a call every 1.1 seconds.
        limited_client(pluggy.url, redis, 60, call_timeout_s=0.3) as client,
    ):
        with pytest.raises(PluggyUnavailable, match="timeout"):
            await client.call("/items/x", lane=Lane.LIVE, count=lambda: None)
        assert pluggy.asked == []


async def test_every_call_takes_its_share_of_its_group(redis: ArqRedis) -> None:
    async with (
        PluggyStub() as pluggy,
        limited_client(pluggy.url, redis, 60) as client,
    ):
        # Not refilled for a minute and a half: they were looked at in the future.
        at = (int(time.time()) + 90) * 1000
        async with redis.pipeline() as pipe:
            for group in ("auth", "items"):
                pipe.hset(f"{PREFIX}budget:{group}", mapping={"tokens": 2, "at": at})
            await pipe.execute()
        for _ in range(2):
            await client.call("/items/x", lane=Lane.LIVE, count=lambda: None)
        with pytest.raises(Deferred, match="rate_budget"):
            await client.call("/items/x", lane=Lane.LIVE, count=lambda: None)
        assert pluggy.count("GET") == 2


async def test_a_call_that_times_out_blocks_no_other(redis: ArqRedis) -> None:
    answers = (Said(body={"apiKey": "k"}, wait_s=30), Said(body={"apiKey": "k"}))
    async with PluggyStub(auth=answers) as pluggy, reading(pluggy.url, redis) as reader:
        give_up_after(reader.client, 0.5)
        with pytest.raises(PluggyUnavailable, match="timeout"):
            await reader.item(ITEM)
        give_up_after(reader.client, CALL_TIMEOUT_S)
        await reader.item(ITEM)


# Secrets


@pytest.fixture
def no_secret(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Texts of a test that no secret may stand in, its log with them."""
    caplog.set_level("DEBUG")
    texts: list[str] = []
    yield texts
    shown = "\n".join([*texts, caplog.text])
    assert CLIENT_SECRET not in shown
    assert "key-1" not in shown
    assert "key-2" not in shown


@pytest.mark.parametrize(
    "answers",
    [
        [Said()],
        [Said(401, {}), Said()],
        [Said(403, {})],
        [Said(404, {"codeDescription": "ITEM_NOT_FOUND"})],
        [Said(429, {})],
        [Said(500, {})],
        [Said(200, b"<html>")],
        [Said(wait_s=30)],
        [Said(410, {})],
    ],
)
async def test_secrets_are_in_no_repr_error_or_log(
    redis: ArqRedis, answers: list[Said], no_secret: list[str]
) -> None:
    async with (
        PluggyStub(*answers) as pluggy,
        connected(pluggy.url, redis, call_timeout_s=1.0) as client,
    ):
        reader = PluggyReader(client, Lane.LIVE)
        try:
            await reader.item(ITEM)
        except PluggyError as error:
            no_secret += [repr(error), str(error), repr(classify(error))]
            no_secret += traceback.format_exception(error)
            no_secret.append(repr(error.__cause__))
        no_secret += [repr(client), repr(reader)]


async def test_an_auth_answer_shows_no_key(redis: ArqRedis, no_secret: list[str]) -> None:
    async with PluggyStub() as pluggy, connected(pluggy.url, redis) as client:
        answer = await client.call("/auth", lane=Lane.LIVE, count=lambda: None)
    assert isinstance(answer, Answer)
    assert b"key-" in answer.body
    no_secret += [repr(answer), str(answer)]


async def test_a_change_may_be_answered_without_a_body_and_a_read_may_not(redis: ArqRedis) -> None:
    """Pluggy's guide answers a deletion with 204, its specification with 200 and a body."""
    for done in (Said(204, b""), Said(200, {"count": 1})):
        async with PluggyStub(done) as pluggy, connected(pluggy.url, redis) as client:
            answer = await client.call(
                f"/items/{ITEM}", lane=Lane.LIVE, count=lambda: None, change=Change("DELETE", {})
            )
            assert answer.status == done.status
    async with PluggyStub(Said(204, b"")) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyUnavailable, match="204"):
            await reader.row(f"/items/{ITEM}")
