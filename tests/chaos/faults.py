"""Every kind of fault: each makes one happen and tells, when it is over, whether it really did."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import aiohttp
import asyncpg
from redis.exceptions import RedisError

import embedded
from ops.demo.simulator import ControlRefused
from tests.chaos.load import LARGE, Load
from tests.chaos.settling import end_halt, is_halted
from tests.chaos.stack import ChaosStack, Replicas
from tests.chaos.wire import Wire
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.inbox.spool import SPOOL
from worker.infra.lanes import Lane

RETRY_TIMEOUT_S: Final = 600.0
HAPPEN_TIMEOUT_S: Final = 12.0
HANDS_FULL_AFTER_S: Final = 0.7
"""Less than a receiver waits for Postgres before it turns to the spool."""
POLL_INTERVAL_S: Final = 0.1
READS: Final = ("GET /v2/transactions", "GET /items", "GET /accounts")
LATER_PAGES: Final = {"match": "GET /v2/transactions", "query": "after="}
# The driver meets the servers as they are, too.
SERVERS_AWAY: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    aiohttp.ClientError,
    ControlRefused,
)
# Atomic: no receiver can spool between the question and the deed.
EMPTY_UNLESS_SPOOLED: Final = f"""
if redis.call('EXISTS', '{SPOOL}') == 1 then return 0 end
redis.call('FLUSHALL')
return 1
"""


@dataclass(slots=True)
class Chaos:
    """What the faults need, and what has happened so far. A lock for each thing that they break."""

    stack: ChaosStack
    load: Load
    dice: Random
    spool_to: int
    done: Counter[str] = field(default_factory=Counter)
    detail: Counter[str] = field(default_factory=Counter)
    first_wire: int = 0
    most_spooled: int = 0
    locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def happen(self, kind: str) -> None:
        """Make a fault of a kind happen; one that could not is tried again."""
        clock = asyncio.get_running_loop().time
        until = clock() + RETRY_TIMEOUT_S
        while clock() < until:
            try:
                happened = await FAULTS[kind](self)
            except SERVERS_AWAY:
                happened = False
            if happened:
                self.done[kind] += 1
                return
            await asyncio.sleep(1)

    async def spooled(self) -> int:
        """How many events wait in Redis now."""
        command: Callable[..., Awaitable[Any]] = self.stack.redis.execute_command
        found = int(await command("HLEN", SPOOL))
        self.most_spooled = max(self.most_spooled, found)
        return found

    def wire(self, kind: str) -> Wire:
        """The connection that is next to be disturbed in this way; all have their turn."""
        names = sorted(self.stack.wires)
        name = names[(self.first_wire + self.done[kind]) % len(names)]
        self.detail[f"{kind}: {name}"] += 1
        return self.stack.wires[name]


Fault = Callable[[Chaos], Awaitable[bool]]


async def holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Wait for a condition; False if it does not come about."""
    for _ in range(int(HAPPEN_TIMEOUT_S / POLL_INTERVAL_S)):
        if await condition():
            return True
        await asyncio.sleep(POLL_INTERVAL_S)
    return False


# Our processes


def replicas(chaos: Chaos, kind: str) -> Replicas:
    return chaos.stack.receivers if kind == "receiver" else chaos.stack.workers


async def worker_killed(chaos: Chaos) -> bool:
    nth = chaos.dice.randrange(chaos.stack.workers.size)
    async with chaos.locks[f"worker {nth}"]:
        await chaos.stack.workers.kill(nth)
    return True


async def receiver_killed(chaos: Chaos) -> bool:
    """Every other time while Postgres stands still, so that it has deliveries in its hands."""
    nth = chaos.dice.randrange(chaos.stack.receivers.size)
    async with chaos.locks["postgres"], chaos.locks[f"receiver {nth}"]:
        busy = chaos.done["receiver killed"] % 2 == 0
        if busy:
            chaos.stack.postgres.pause()
        try:
            await asyncio.sleep(HANDS_FULL_AFTER_S)
            await chaos.stack.receivers.kill(nth)
        finally:
            if busy:
                chaos.stack.postgres.resume()
    return True


def paused(kind: str) -> Fault:
    async def happen(chaos: Chaos) -> bool:
        nth = chaos.dice.randrange(replicas(chaos, kind).size)
        async with chaos.locks[f"{kind} {nth}"]:
            await replicas(chaos, kind).pause(nth, chaos.dice.uniform(0.5, 6.0))
        return True

    return happen


# Servers


def server(chaos: Chaos, kind: str) -> embedded.Postgres | embedded.Valkey:
    return chaos.stack.postgres if kind == "postgres" else chaos.stack.valkey


def server_killed(kind: str) -> Fault:
    async def happen(chaos: Chaos) -> bool:
        async with chaos.locks[kind]:
            await asyncio.to_thread(server(chaos, kind).kill)
            try:
                await asyncio.sleep(chaos.dice.uniform(0.1, 1.5))
            finally:
                await asyncio.to_thread(server(chaos, kind).start)
        return True

    return happen


def server_paused(kind: str) -> Fault:
    async def happen(chaos: Chaos) -> bool:
        async with chaos.locks[kind]:
            server(chaos, kind).pause()
            try:
                await asyncio.sleep(chaos.dice.uniform(0.5, 3.5))
            finally:
                server(chaos, kind).resume()
        return True

    return happen


async def redis_emptied(chaos: Chaos) -> bool:
    async with chaos.locks["valkey"]:
        command: Callable[..., Awaitable[Any]] = chaos.stack.redis.execute_command
        return bool(await command("EVAL", EMPTY_UNLESS_SPOOLED, 0))


async def spool_filled(chaos: Chaos) -> bool:
    """Postgres is away until so many events are spooled."""

    async def is_filled() -> bool:
        return await chaos.spooled() >= chaos.spool_to

    async with chaos.locks["postgres"], chaos.locks["valkey"]:
        await asyncio.to_thread(chaos.stack.postgres.kill)
        try:
            return await holds(is_filled)
        finally:
            await asyncio.to_thread(chaos.stack.postgres.start)


# Connections


async def connections_cut(chaos: Chaos) -> bool:
    """All connections between two are reset, and no new one is made for a while."""
    wire = chaos.wire("connections cut")
    wire.refusing = True
    wire.cut()
    try:
        await asyncio.sleep(chaos.dice.uniform(0.2, 1.5))
    finally:
        wire.refusing = False
    return True


async def connections_deaf(chaos: Chaos) -> bool:
    """What is connected hears nothing any more; new connections are as ever."""
    chaos.wire("connections deaf").cut_off()
    await asyncio.sleep(0.5)
    return True


async def connections_delayed(chaos: Chaos) -> bool:
    wire = chaos.wire("connections delayed")
    wire.delay_s = chaos.dice.uniform(0.05, 0.4)
    try:
        await asyncio.sleep(chaos.dice.uniform(1.0, 4.0))
    finally:
        wire.delay_s = 0.0
    return True


# Pluggy


async def pluggy_paused(chaos: Chaos) -> bool:
    chaos.stack.simulator.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(chaos.dice.uniform(0.5, 3.5))
    finally:
        chaos.stack.simulator.send(signal.SIGCONT)
    return True


async def strikes(chaos: Chaos, fault: dict[str, Any]) -> bool:
    """Set a fault at Pluggy; returns once it has hit. What it has left to hit stays."""
    name = f"chaos {uuid.uuid4()}"

    async def has_hit() -> bool:
        left = await chaos.stack.pluggy.json("GET", "/_simulator/faults")
        return not any(entry["message"] == name and not entry["hits"] for entry in left)

    await chaos.stack.pluggy.json("POST", "/_simulator/faults", fault | {"message": name})
    if await holds(has_hit):
        return True
    await chaos.stack.pluggy.json("DELETE", "/_simulator/faults")
    return False


def pluggy_answers(**answer: Any) -> Fault:
    async def happen(chaos: Chaos) -> bool:
        match, times = chaos.dice.choice(READS), chaos.dice.randint(2, 6)
        return await strikes(chaos, {"match": match, "times": times, **answer})

    return happen


async def pluggy_fails(chaos: Chaos) -> bool:
    return await pluggy_answers(kind="status", status=chaos.dice.choice((500, 502, 503)))(chaos)


async def verify(chaos: Chaos) -> str:
    """Order a verify of an item that has more than one page in an account; returns its id."""
    item_id = chaos.dice.choice(chaos.load.items[:LARGE])
    order = own_event("sync/verify", uuid.UUID(item_id), lane=Lane.LIVE, now=datetime.now(UTC))
    await accept_events(chaos.stack.db, [order])
    return item_id


async def cursor_expires(chaos: Chaos) -> bool:
    """The next page of a walk is refused."""
    refusal = {"kind": "status", "status": 400, "times": 1, "item": await verify(chaos)}
    return await strikes(chaos, LATER_PAGES | refusal)


async def key_expires_within_a_walk(chaos: Chaos) -> bool:
    """Between two pages of a walk, the second of which is slow to come, all keys are revoked."""
    item_id = await verify(chaos)
    slow = LATER_PAGES | {"kind": "slow", "seconds": 1, "times": 2, "item": item_id}
    await chaos.stack.pluggy.json("POST", "/_simulator/faults", slow)

    async def is_walking() -> bool:
        pages = "SELECT max(pages) FROM pluggy_sync.account_walks WHERE item_id = $1"
        return bool(await chaos.stack.db.fetchval(pages, item_id))

    walking = await holds(is_walking)
    await chaos.stack.pluggy.json("DELETE", "/_simulator/keys")
    await chaos.stack.pluggy.json("DELETE", "/_simulator/faults")
    return walking


async def auth_refused(chaos: Chaos) -> bool:
    """Our credentials are refused until everything is halted."""

    async def halted() -> bool:
        return await is_halted(chaos.stack.db)

    async def resumed() -> bool:
        await end_halt(chaos.stack.db)
        return not await is_halted(chaos.stack.db)

    refusal = {"match": "POST /auth", "kind": "status", "status": 401, "rate": 1.0}
    await chaos.stack.pluggy.json("POST", "/_simulator/faults", refusal)
    await chaos.stack.pluggy.json("DELETE", "/_simulator/keys")
    try:
        happened = await holds(halted)
    finally:
        await chaos.stack.pluggy.json("DELETE", "/_simulator/faults")
    return await holds(resumed) and happened


ON_SERVERS: Final[dict[str, Fault]] = {
    "receiver killed": receiver_killed,
    "receiver paused": paused("receiver"),
    "worker killed": worker_killed,
    "worker paused": paused("worker"),
    "Postgres killed": server_killed("postgres"),
    "Postgres paused": server_paused("postgres"),
    "Valkey killed": server_killed("valkey"),
    "Valkey paused": server_paused("valkey"),
    "Redis emptied": redis_emptied,
    "spool filled": spool_filled,
    "connections cut": connections_cut,
    "connections deaf": connections_deaf,
    "connections delayed": connections_delayed,
}
AT_PLUGGY: Final[dict[str, Fault]] = {
    "Pluggy paused": pluggy_paused,
    "Pluggy 429": pluggy_answers(kind="status", status=429, retryAfter=1),
    "Pluggy 5xx": pluggy_fails,
    "Pluggy reset": pluggy_answers(kind="reset"),
    "Pluggy time-out": pluggy_answers(kind="timeout", seconds=21),
    "Pluggy garbage": pluggy_answers(kind="garbage"),
    "walk's cursor expired": cursor_expires,
    "key expired within a walk": key_expires_within_a_walk,
    "/auth refused": auth_refused,
}
FAULTS: Final = ON_SERVERS | AT_PLUGGY
"""Pluggy itself is never killed: what the simulator holds is the truth that all is judged by."""
