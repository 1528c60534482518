"""Run all checks, those of one server also while another one is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
from redis.exceptions import RedisError

from ops.cli import console
from ops.cli.doctor.check import ERROR, Check
from ops.cli.doctor.pluggy import check_application, check_delivery, check_keys, check_webhooks
from ops.cli.doctor.postgres import check_postgres
from ops.cli.doctor.redis import check_redis
from ops.cli.doctor.settings import check_settings, check_versions
from ops.cli.explanations import explain
from worker.infra.baseline import UnreleasedDatabase
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect
from worker.infra.settings import Environment, PluggySettings, SettingsError, SettingsT, load
from worker.maintenance.subscriptions import Expected
from worker.pluggy_api.client import PluggyClient

FAILURES: Final = (
    OSError,
    ValueError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    UnreleasedDatabase,
    console.CommandFailed,
)


async def examine() -> list[Check]:
    """All checks, in the order of their areas."""
    found = [*check_settings(), check_versions()]
    environment = _loaded(Environment)
    if environment is not None:
        async with AsyncExitStack() as open_until:
            db = await _database(open_until, environment, found)
            groups = await asyncio.gather(
                _of_redis(environment), _of_postgres(db, environment), _of_pluggy(db)
            )
            found += [check for group in groups for check in group]
    return found


def _loaded(settings: type[SettingsT]) -> SettingsT | None:
    """None if they are incomplete, which check_settings() has said."""
    try:
        return load(settings)
    except SettingsError:
        return None


async def _database(
    open_until: AsyncExitStack, settings: Environment, found: list[Check]
) -> Pool | None:
    """The database; None if it cannot be used, then with the reason in `found`."""
    try:
        return await open_until.enter_async_context(console.database(settings))
    except FAILURES as error:
        text = error.message if isinstance(error, console.CommandFailed) else explain(error)
        command = "pluggy-sync migrate" if "pluggy-sync migrate" in text else None
        found.append(Check(ERROR, "postgres", text, command))
        return None


async def _guarded(area: str, work: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    try:
        return await work()
    except FAILURES as error:
        return [Check(ERROR, area, explain(error))]


async def _of_redis(settings: Environment) -> list[Check]:
    redis = connect(settings.redis_url.get_secret_value())
    try:
        return await _guarded("redis", lambda: check_redis(redis))
    finally:
        await redis.aclose()


async def _of_postgres(db: Pool | None, settings: Environment) -> list[Check]:
    return [] if db is None else await _guarded("postgres", lambda: check_postgres(db, settings))


async def _of_pluggy(db: Pool | None) -> list[Check]:
    settings = _loaded(PluggySettings)
    if settings is None:
        return []
    redis = connect(settings.redis_url.get_secret_value())
    try:
        async with PluggyClient.of(settings, redis) as client:
            return [
                check async for group in _pluggy_groups(db, client, settings) for check in group
            ]
    finally:
        await redis.aclose()


async def _pluggy_groups(
    db: Pool | None, client: PluggyClient, settings: PluggySettings
) -> AsyncIterator[list[Check]]:
    keys = await check_keys(client)
    yield [keys]
    expected = Expected.of(settings)
    if db is not None:
        yield await _guarded("pluggy", lambda: _one(check_application(db, settings)))
    if expected is None or not expected.secrets:
        return
    if keys.state != ERROR:
        yield await check_webhooks(client, expected)
    if db is not None:
        yield await _guarded("webhook", lambda: check_delivery(db, expected))


async def _one(check: Awaitable[Check]) -> list[Check]:
    return [await check]
