"""Check the Redis settings that decide whether spooled events survive; log and store the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from worker.infra.lazy_log import LazyLog

log = LazyLog()

ADVICE: Final[Mapping[str, str]] = {
    "append_only_off": "set appendonly yes: an outage of Postgres is answered 503 without it",
    "append_fsync_not_always": "set appendfsync always: some answers are 503 without it",
    "may_evict": "set maxmemory-policy noeviction: Redis may throw away events that wait in it",
    "unknown": "CONFIG is forbidden; see that appendfsync is always, and the policy noeviction",
}


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Persistence and memory settings; None if Redis does not say. unsafe: keys of ADVICE."""

    append_only: bool | None
    append_fsync: str | None
    maxmemory_bytes: int | None
    maxmemory_policy: str | None

    @property
    def unsafe(self) -> list[str]:
        evicts = self.maxmemory_policy not in (None, "noeviction")
        fsync = self.append_fsync
        found = {
            "append_only_off": self.append_only is False,
            "append_fsync_not_always": self.append_only is True and fsync not in (None, "always"),
            "may_evict": evicts,
            "unknown": None in (self.append_only, self.maxmemory_policy)
            or (self.append_only is True and fsync is None),
        }
        return [name for name, is_so in found.items() if is_so]


async def read_redis_settings(redis: Redis) -> RedisSettings:
    """Read the settings. Raises RedisError or OSError if Redis is away."""
    persistence = await _ask(redis, "INFO", "persistence")
    memory = await _ask(redis, "INFO", "memory")
    fsync = (await _ask(redis, "CONFIG GET", "appendfsync")).get("appendfsync")
    policy = memory.get("maxmemory_policy")
    append_only, maxmemory = persistence.get("aof_enabled"), memory.get("maxmemory")
    return RedisSettings(
        None if append_only is None else bool(append_only),
        None if fsync is None else str(fsync),
        None if maxmemory is None else int(maxmemory),
        None if policy is None else str(policy),
    )


async def _ask(redis: Redis, command: str, about: str) -> dict[str, Any]:
    """The answer of INFO or CONFIG GET; empty if it is refused, as managed servers do."""
    try:
        answer = await redis.execute_command(command, about)
    except ResponseError:
        return {}
    return {_text(name): _text(value) for name, value in dict(answer).items()}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


class RedisSafety:
    """Checks the settings repeatedly, and logs unsafe ones when they change."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._logged: list[str] = []

    async def check(self) -> RedisSettings:
        """Read the settings and log new unsafe ones. Raises as read_redis_settings()."""
        found = await read_redis_settings(self._redis)
        if found.unsafe and found.unsafe != self._logged:
            advice = "; ".join(ADVICE[name] for name in found.unsafe)
            log.warning("redis_unsafe", unsafe=found.unsafe, advice=advice)
        self._logged = found.unsafe
        return found
