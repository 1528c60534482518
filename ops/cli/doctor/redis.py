"""Checks of Redis: version, append-only file, eviction, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from redis.asyncio import Redis

from ops.cli.doctor.check import OK, WARNING, Check
from worker.infra.redis_settings import ADVICE, RedisSettings, read_redis_settings

AREA: Final = "redis"
MIN_VERSION: Final = (7, 2)
FULL: Final = 0.8
COMMANDS: Final = {
    "append_only_off": "redis-cli CONFIG SET appendonly yes",
    "append_fsync_not_always": "redis-cli CONFIG SET appendfsync always",
    "may_evict": "redis-cli CONFIG SET maxmemory-policy noeviction",
}


async def check_redis(redis: Redis) -> list[Check]:
    """Raises RedisError and OSError."""
    server = await redis.info()
    return [*_server(server), *_safety(await read_redis_settings(redis))]


def _server(server: dict[str, Any]) -> Iterator[Check]:
    # Valkey 8 calls itself Redis 7.2 for older clients, and tells its own version beside.
    name = "Valkey" if "valkey_version" in server else "Redis"
    stated = str(server.get("valkey_version") or server.get("redis_version") or "0")
    numbers = tuple(int(part) for part in stated.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        what = f"{name} {stated}: events are spooled during an outage of Postgres from 7.2 on"
        yield Check(WARNING, AREA, what)
    else:
        yield Check(OK, AREA, f"{name} {stated}")
    used, limit = server.get("used_memory") or 0, server.get("maxmemory") or 0
    if limit and used > FULL * limit:
        what = f"{used / limit:.0%} of maxmemory is used: full, it takes no more events"
        yield Check(WARNING, AREA, what, "redis-cli CONFIG SET maxmemory …")


def _safety(settings: RedisSettings) -> Iterator[Check]:
    for name in settings.unsafe:
        yield Check(WARNING, AREA, ADVICE[name], COMMANDS.get(name))
    if not settings.unsafe:
        yield Check(OK, AREA, "events that wait in it survive a crash")
