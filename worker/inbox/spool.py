"""The spool: fsynced storage for events in Redis while Postgres is away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from worker.inbox.accept import Accepted
from worker.inbox.events import OWN_EVENTS, WebhookEvent, parse_registration, parse_webhook
from worker.infra.redis_keys import PREFIX

SPOOL: Final = PREFIX + "spool"
TOTALS: Final = SPOOL + ":totals"
MAX_SPOOL_ENTRIES: Final = 100_000
MAX_SPOOL_BYTES: Final = 128 * 1024 * 1024
DRAIN_BATCH_SIZE: Final = 500
MAX_DRAIN_BYTES: Final = 4 * 1024 * 1024
FSYNC_TIMEOUT_MS: Final = 500

ENTRIES = Gauge("pluggy_sync_spool_entries", "Events in Redis that wait for Postgres")
BYTES = Gauge("pluggy_sync_spool_bytes", "Bytes of the events in Redis that wait for Postgres")
OLDEST = Gauge(
    "pluggy_sync_spool_oldest_age_seconds",
    "Seconds since the first event was spooled after the spool was last empty",
)

# The first delivery stays, so that its received_at is kept. The last command writes even if no
# event is new: WAITAOF waits only for writes of its own connection, and a duplicate may only be
# acknowledged once the first one, written by another connection, is on disk.
# ARGV: most entries, most bytes, then field and value of each event.
ADD_SCRIPT: Final = """
local entries = redis.call('HLEN', KEYS[1])
local stored = tonumber(redis.call('HGET', KEYS[2], 'bytes') or 0)
local answers, added = {}, 0
for i = 3, #ARGV, 2 do
  local size = #ARGV[i] + #ARGV[i + 1]
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    table.insert(answers, 'duplicate')
  elseif entries >= tonumber(ARGV[1]) or stored + added + size > tonumber(ARGV[2]) then
    table.insert(answers, 'full')
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    entries, added = entries + 1, added + size
    table.insert(answers, 'new')
  end
end
if added > 0 then redis.call('HSETNX', KEYS[2], 'since', redis.call('TIME')[1]) end
redis.call('HINCRBY', KEYS[2], 'bytes', added)
return answers
"""

# Random entries, so that processes that drain at the same time seldom take the same ones.
# ARGV: most entries, most bytes (but always one entry).
TAKE_BATCH_SCRIPT: Final = """
local taken, size = {}, 0
for _, field in ipairs(redis.call('HRANDFIELD', KEYS[1], ARGV[1])) do
  local value = redis.call('HGET', KEYS[1], field)
  size = size + #value
  if #taken > 0 and size > tonumber(ARGV[2]) then break end
  table.insert(taken, field)
  table.insert(taken, value)
end
return taken
"""

# Only unchanged entries. ARGV: field and SHA-1 of the value of each entry.
REMOVE_SCRIPT: Final = """
local freed = 0
for i = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  if value and redis.sha1hex(value) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    freed = freed + #ARGV[i] + #value
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[2], 'bytes', -freed)
else
  redis.call('DEL', KEYS[2])
end
"""


class SpoolRefuses(Exception):
    """Redis cannot guarantee to keep an event; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A spooled event: the parts from which it is parsed again. own: an event of ours."""

    event_id: str
    body: bytes
    received_at: datetime
    own: bool

    def event(self) -> WebhookEvent:
        """The event as the receiver has parsed it. Raises MalformedEvent."""
        read = parse_registration if self.own else parse_webhook
        # A delivery without eventId keeps the random one that it was given.
        return replace(read(self.body, self.received_at), event_id=self.event_id)


@dataclass(frozen=True, slots=True)
class Figures:
    """Size of the spool, and seconds since it was last empty."""

    entries: int
    bytes: int
    oldest_age_s: int


class Spool:
    """A hash in Redis, from the event's key to its Entry; bounded in number and bytes."""

    def __init__(
        self,
        redis: Redis,
        *,
        max_entries: int = MAX_SPOOL_ENTRIES,
        max_bytes: int = MAX_SPOOL_BYTES,
    ) -> None:
        self._redis = redis
        self._bounds = (max_entries, max_bytes)

    async def add(self, events: Sequence[WebhookEvent]) -> list[Accepted | SpoolRefuses]:
        """Store events, fsynced; results in the order given.

        Raises SpoolRefuses if Redis cannot guarantee durability, RedisError or OSError if it is
        away. Events written in spite of an error are drained too: accepting is idempotent.
        """
        await self._check_durability()
        written = [part for event in events for part in (_field(event), _value(event))]
        async with self._redis.pipeline(transaction=False) as pipe:  # one connection
            pipe.execute_command("EVAL", ADD_SCRIPT, 2, SPOOL, TOTALS, *self._bounds, *written)
            pipe.execute_command("WAITAOF", 1, 0, FSYNC_TIMEOUT_MS)
            answers, (fsynced, _) = await pipe.execute()
        if not fsynced:
            raise SpoolRefuses("Redis did not confirm the fsync in time")
        return [_answer(answer) for answer in answers]

    async def check(self) -> None:
        """Raise the error that add() would raise for the next event."""
        if (await self.figures()).entries >= self._bounds[0]:
            raise SpoolRefuses("the spool is full")
        await self.add([])

    async def take(self) -> dict[bytes, bytes]:
        """A batch of entries, field to value; they stay in Redis until remove()."""
        taken = await self._call(TAKE_BATCH_SCRIPT, [SPOOL], DRAIN_BATCH_SIZE, MAX_DRAIN_BYTES)
        return dict(zip(taken[::2], taken[1::2], strict=True))

    async def remove(self, entries: Mapping[bytes, bytes]) -> None:
        """Delete entries that Postgres has committed, unless they have changed since."""
        seen = [
            part
            for field, value in entries.items()
            for part in (field, hashlib.sha1(value, usedforsecurity=False).hexdigest())
        ]
        await self._call(REMOVE_SCRIPT, [SPOOL, TOTALS], *seen)

    async def figures(self) -> Figures:
        """The size of the spool; also sets the Prometheus gauges."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(SPOOL)
            pipe.hmget(TOTALS, ["bytes", "since"])
            pipe.time()
            entries, (stored, since), (now, _) = await pipe.execute()
        age_s = max(0, now - int(since)) if entries and since else 0
        found = Figures(entries, int(stored or 0) if entries else 0, age_s)
        ENTRIES.set(found.entries)
        BYTES.set(found.bytes)
        OLDEST.set(found.oldest_age_s)
        return found

    async def _check_durability(self) -> None:
        """Raise SpoolRefuses before anything is written that could not be confirmed."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("WAITAOF", 1, 0, 1)
            pipe.info("memory")
            try:
                _, memory = await pipe.execute()
            except ResponseError as error:
                raise SpoolRefuses("Redis has no append-only file") from error
        if memory.get("maxmemory") and str(memory.get("maxmemory_policy")).startswith("allkeys"):
            raise SpoolRefuses("Redis may evict what it keeps; it needs noeviction")

    async def _call(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        return await self._redis.execute_command("EVAL", script, len(keys), *keys, *arguments)


def read_entry(value: bytes) -> Entry:
    """Decode an entry. Raises msgspec's errors if another program has written it."""
    return _decoder.decode(value)


_decoder = msgspec.msgpack.Decoder(Entry)


def _field(event: WebhookEvent) -> str:
    return f"{event.event_id}:{event.body_sha256.hex()}"


def _value(event: WebhookEvent) -> bytes:
    # A webhook with the name of an event of ours is kept as unknown.
    own = event.event in OWN_EVENTS and not event.kept
    return msgspec.msgpack.encode(Entry(event.event_id, event.body, event.received_at, own))


def _answer(answer: bytes) -> Accepted | SpoolRefuses:
    if answer == b"full":
        return SpoolRefuses("the spool is full")
    return Accepted(is_new=answer == b"new", made_due=False, row_id=None)
