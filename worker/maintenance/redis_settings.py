"""Redis settings: stores what Redis says of its own safety, for status and findings."""

from __future__ import annotations

from worker.infra.postgres import Pool
from worker.infra.redis_settings import RedisSafety
from worker.store import redis


async def record_redis_settings(db: Pool, safety: RedisSafety) -> bool:
    """Check, and store what was found; there is never more to do. Raises as RedisSafety.check()."""
    found = await safety.check()
    await redis.record_redis_settings(
        db,
        append_only=found.append_only,
        append_fsync=found.append_fsync,
        maxmemory_bytes=found.maxmemory_bytes,
        maxmemory_policy=found.maxmemory_policy,
        unsafe=found.unsafe,
    )
    return False
