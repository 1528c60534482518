"""The rate limiter: Pluggy's limits per minute, shared by all workers through Redis.

One token bucket per endpoint group. For a limit of L a minute: burst L/12, refilled by
(L - burst)/60 a second, so that no fixed window of a minute ever sees more than L.

Shares bound the cost of forged webhooks. The first request for an item that is not stored also
takes a token from a bucket with a quarter of the limit; one for a stored item named by a webhook
takes one from a bucket of that item. Other items keep the rest.

A caller without a token reserves the next one of its lane, if that comes within two seconds (live
lane: five). Without reservations all callers would wake for the same token: of eight, one in four
would be deferred (7/8 to the power of 11) although there is a token for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.infra.lanes import Lane
from worker.infra.redis_keys import PREFIX
from worker.pluggy_api.errors import Deferred

MAX_WAIT_S: Final = 2.0
MAX_LIVE_WAIT_S: Final = 5.0
"""Live work waits longer: a deferred sync would lose its place to later ones."""
LATE_RESERVATION_S: Final = 0.5
"""Extra wait of a caller whose reserved token was taken by a better lane."""
MIN_DEFER_S: Final = 1.0
"""Minimum pause of a deferred call: each retry costs a claim."""
BURST: Final = 1 / 12
"""Share of the limit that may be spent at once; the rest is refilled over the minute."""
UNKNOWN_SHARE: Final = 1 / 4
"""Share of the limit for all items that are not stored."""
ITEM_SHARE: Final = 1 / 12
"""Share of the limit for one stored item named by webhooks."""
MIN_ITEM_SHARE: Final = 12
"""Minimum of ITEM_SHARE in calls a minute, up to the limit itself."""
ITEM_BURST: Final = 1 / 3
"""Part of an item's share at once: one collection sends several webhooks within seconds."""
SHARE_KEPT_MS: Final = 86_400_000
ITEM_SHARE_KEPT_MS: Final = 600_000
UNKNOWN_RESERVATIONS_MS: Final = 600_000
"""Maximum deferral for unknown items; later callers retry after it."""
CLOCK_WAIT_MS: Final = 120_000
"""Maximum step back of Redis's clock that calls wait for; after a larger one a bucket is reset."""
PATCH_ITEMS_LIMIT: Final = 20
FLOOR_BY_LANE: Final = {
    Lane.LIVE: 0.0,
    Lane.RETRY: 1 / 6,
    Lane.BACKFILL: 1 / 3,
    Lane.AUDIT: 2 / 3,
}
"""Share of the burst that a lane leaves to better lanes."""

# By Redis's clock, because workers' clocks differ. A missing bucket starts empty, so that the limit
# holds after Redis has lost its data. Buckets live for half a day at least: after a quiet hour
# calls do not wait.
# An unused reservation costs nothing: its token stays in the bucket. A caller without a reservation
# waits for its patience too: work that is deferred at once would only be claimed again at once.
# A reservation further ahead than possible means that the clock has gone back, and so does a bucket
# changed in the future. After a small step back calls wait, so that a swinging clock grants nothing
# twice; after a large one the bucket starts empty and its 429 ends earlier by that step.
TAKE_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local burst, refill, floor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local last_reservation = 'last_reservation:' .. ARGV[4]
local reservation, patience = tonumber(ARGV[5]), tonumber(ARGV[6])
local stored = redis.call(
  'HMGET', KEYS[1], 'tokens', 'at', 'blocked_until', last_reservation, 'kept_until')
local tokens, at = tonumber(stored[1]) or 0, tonumber(stored[2]) or now
local blocked_until = tonumber(stored[3]) or 0
if at - now > tonumber(ARGV[8]) then
  blocked_until = math.max(0, blocked_until - (at - now))
  tokens, at = 0, now
  redis.call('HSET', KEYS[1], 'blocked_until', blocked_until)
end
tokens = math.min(burst, tokens + math.max(0, now - at) * refill)
local ahead = (tonumber(stored[4]) or 0) - now
if reservation ~= 0 or ahead < 0 or ahead > tonumber(ARGV[7]) then ahead = 0 end
local before = ahead * refill
local wait = 0
if blocked_until > now then
  tokens = 0
  wait = blocked_until - now
elseif tokens - 1 - before >= floor then
  tokens = tokens - 1
else
  wait = math.ceil((floor + 1 - tokens) / refill)
  local queued = wait
  if ahead > 0 then queued = math.max(wait, math.ceil(ahead + 1 / refill)) end
  if reservation == 0 and queued <= patience then
    wait, reservation = queued, now + queued
    redis.call('HSET', KEYS[1], last_reservation, reservation)
  elseif reservation == 0 and wait <= patience then
    wait = patience
  end
  wait = math.max(1, wait)
end
local changed = {'tokens', tostring(tokens), 'at', math.max(now, at)}
local keep = (tonumber(stored[5]) or 0) - now < 43200000
if keep then
  changed[5], changed[6] = 'kept_until', now + 86400000
end
redis.call('HSET', KEYS[1], unpack(changed))
if keep then redis.call('PEXPIRE', KEYS[1], math.max(86400000, wait + 60000)) end
return {wait, reservation}
"""

EMPTY_SCRIPT: Final = """
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local stored = tonumber(redis.call('HGET', KEYS[1], 'blocked_until')) or 0
redis.call('HSET', KEYS[1], 'tokens', '0', 'blocked_until', math.max(stored, until_ms))
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]) + 86400000)
return 0
"""


# A share is not Pluggy's limit, so it starts full. A caller that waits has taken its token already;
# a deferred caller gets a time after all others, so that thousands do not retry for one token.
SHARE_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local burst, refill = tonumber(ARGV[1]), tonumber(ARGV[2])
local patience, farthest = tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'last_reservation')
local at = tonumber(stored[2]) or now
local tokens = math.min(burst, (tonumber(stored[1]) or burst) + math.max(0, now - at) * refill) - 1
local wait = math.ceil(math.max(0, -tokens / refill))
if wait > patience then
  tokens = tokens + 1
  local last = math.min(tonumber(stored[3]) or 0, now + farthest)
  wait = math.ceil(math.min(farthest, math.max(last + 1 / refill - now, wait)))
  redis.call('HSET', KEYS[1], 'last_reservation', now + wait)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return wait
"""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Seconds to wait for a call, 0: granted. at_ms (Redis's clock): the reserved time, or 0."""

    wait_s: float
    at_ms: int = 0


NO_RESERVATION: Final = Reservation(0.0)


@dataclass(slots=True)
class LocalBucket:
    """Token bucket of one process while Redis is away: a tenth of the limit, starting empty."""

    refill_per_s: float
    tokens: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def take(self) -> float:
        """Take a token; returns 0, or the seconds until one is available."""
        now = time.monotonic()
        self.tokens = min(1.0, self.tokens + (now - self.at) * self.refill_per_s)
        self.at = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.refill_per_s


class RateBudget:
    """Grants calls per endpoint group and lane. `per_minute` is Pluggy's limit for most groups."""

    def __init__(self, redis: Redis, *, per_minute: int) -> None:
        self._per_minute = per_minute
        self._redis = redis
        self._take = redis.register_script(TAKE_SCRIPT)
        self._empty = redis.register_script(EMPTY_SCRIPT)
        self._share = redis.register_script(SHARE_SCRIPT)
        self._local: dict[str, LocalBucket] = {}

    async def acquire(self, group: str, lane: Lane) -> float:
        """Wait for a call of this group, up to the maximum of the lane. Raises Deferred.

        Returns the seconds that it had to wait.
        """
        patience_s = MAX_LIVE_WAIT_S if lane == Lane.LIVE else MAX_WAIT_S
        deadline, left_s, waited_s = time.monotonic() + patience_s, patience_s, 0.0
        given = await self.take(group, lane, patience_s=left_s)
        while given.wait_s:
            if given.wait_s > left_s:
                raise Deferred("rate_budget", wait_s=max(given.wait_s, MIN_DEFER_S))
            await asyncio.sleep(given.wait_s)
            waited_s += given.wait_s
            until = deadline + LATE_RESERVATION_S if given.at_ms else deadline
            left_s = max(0.0, until - time.monotonic())
            given = await self.take(group, lane, reservation=given, patience_s=left_s)
        return waited_s

    async def take_share(self, group: str, item_id: uuid.UUID | None = None) -> float:
        """Wait for the share of a stored item; None: the share of all items that are not stored.

        Returns the seconds that it had to wait. Raises Deferred, each time with another wait, if it
        would take over MAX_WAIT_S.
        """
        wait_s = await self._take_share(group, item_id)
        if wait_s > MAX_WAIT_S:
            raise Deferred("rate_budget", wait_s=wait_s)
        await asyncio.sleep(wait_s)
        return wait_s

    async def _take_share(self, group: str, item_id: uuid.UUID | None = None) -> float:
        limit = self.limit(group)
        if item_id is None:
            name, share, burst, kept_ms = "unknown", limit * UNKNOWN_SHARE, BURST, SHARE_KEPT_MS
        else:
            share = max(limit * ITEM_SHARE, min(limit, MIN_ITEM_SHARE))
            name, burst, kept_ms = str(item_id), ITEM_BURST, ITEM_SHARE_KEPT_MS
        refill_per_ms = share * (1 - burst) / 60_000
        asked = [max(1.0, share * burst), refill_per_ms, int(MAX_WAIT_S * 1000)]
        bounds = [UNKNOWN_RESERVATIONS_MS, kept_ms]
        try:
            wait_ms = await self._share(keys=[f"{_key(group)}:{name}"], args=[*asked, *bounds])
        except (RedisError, OSError):
            return 0.0  # the local bucket of the group is small enough
        return float(wait_ms) / 1000

    async def empty(self, group: str, *, wait_s: float) -> None:
        """Block the group for wait_s after a 429."""
        # Without Redis the local bucket is small enough.
        with contextlib.suppress(RedisError, OSError):
            await self._empty(keys=[_key(group)], args=[int(wait_s * 1000)])

    async def take(
        self,
        group: str,
        lane: Lane,
        *,
        reservation: Reservation = NO_RESERVATION,
        patience_s: float = 0.0,
    ) -> Reservation:
        """Take a token, or reserve the next one if it comes within patience_s.

        reservation: the one returned before. Without a token or a reservation, the result is the
        wait until a call may succeed.
        """
        limit = self.limit(group)
        burst = limit * BURST
        refill_per_ms = (limit - burst) / 60_000
        # A small burst has no room for floors, so that every lane is granted calls.
        floor = max(0.0, min(FLOOR_BY_LANE[lane] * burst, burst - 1))
        try:
            asked = [int(lane), reservation.at_ms, int(patience_s * 1000)]
            bounds = [int(MAX_LIVE_WAIT_S * 1000), CLOCK_WAIT_MS]
            wait_ms, reserved_ms = await self._take(
                keys=[_key(group)], args=[burst, refill_per_ms, floor, *asked, *bounds]
            )
        except (RedisError, OSError):
            bucket = self._local.setdefault(group, LocalBucket(refill_per_ms * 1000 / 10))
            return Reservation(bucket.take())
        return Reservation(wait_ms / 1000, reserved_ms)

    def limit(self, group: str) -> int:
        """Pluggy's limit of a group, in calls a minute."""
        return (
            min(PATCH_ITEMS_LIMIT, self._per_minute) if group == "patch_items" else self._per_minute
        )


def _key(group: str) -> str:
    return f"{PREFIX}budget:{group}"
