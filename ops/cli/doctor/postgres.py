"""Checks of Postgres: version, role and rights, settings, a pooler in between, the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from ops.cli.doctor.check import ERROR, OK, WARNING, Check
from ops.cli.terminal_text import counted
from worker.infra.postgres import Pool
from worker.infra.settings import Environment
from worker.store import doctor
from worker.store.doctor import PostgresFacts

AREA: Final = "postgres"
MIN_VERSION: Final = 15
MAX_CLOCK_ERROR_S: Final = 5.0
MIN_CONNECTIONS: Final = 40
DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")


async def check_postgres(db: Pool, settings: Environment) -> list[Check]:
    """Raises asyncpg's errors."""
    async with db.acquire() as conn:
        server_pid = conn.get_server_pid()
        facts = await doctor.postgres_facts(conn)
    found = [
        *_server(facts),
        *_role(facts),
        *_pooler(settings, is_pooled=server_pid != facts.backend_pid),
    ]
    return found + await _deliveries(db)


def _server(facts: PostgresFacts) -> Iterator[Check]:
    major = facts.version // 10_000
    if major < MIN_VERSION:
        yield Check(ERROR, AREA, f"version {major}; {MIN_VERSION} or newer is needed")
    else:
        yield Check(OK, AREA, f"version {major}")
    if facts.is_standby:
        yield Check(ERROR, AREA, "DATABASE_URL leads to a standby, which takes no writes")
    for name in DURABLE:
        if getattr(facts, name) == "off":
            what = f"{name} is off: events that were acknowledged may be lost in a crash"
            yield Check(
                ERROR, AREA, what, f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
            )
    if facts.max_connections < MIN_CONNECTIONS:
        what = f"max_connections is {facts.max_connections}: too few for several processes"
        yield Check(WARNING, AREA, what, "ALTER SYSTEM SET max_connections = 100; then restart it")
    if facts.isolation != "read committed":
        what = f"default_transaction_isolation is {facts.isolation}; read committed is needed"
        yield Check(
            ERROR, AREA, what, f"ALTER ROLE {facts.role} RESET default_transaction_isolation"
        )
    yield _clock(facts.now)


def _clock(server: datetime) -> Check:
    apart = abs((datetime.now(UTC) - server).total_seconds())
    if apart <= MAX_CLOCK_ERROR_S:
        return Check(OK, "clock", "Postgres and this machine agree")
    what = f"Postgres's clock and this machine's are {apart:.0f} s apart: one of them is wrong"
    return Check(WARNING, "clock", what, "timedatectl set-ntp true")


def _role(facts: PostgresFacts) -> Iterator[Check]:
    if facts.is_superuser:
        what = f"{facts.role} is a superuser: no process should log in so (docs/roles.md)"
        yield Check(WARNING, AREA, what, "pluggy-sync migrate --roles")
    rights = {
        "accept events": facts.may_accept,
        "write the mirror": facts.may_write,
        "read the views of operators": facts.may_read_ops,
    }
    able = ", ".join(name for name, may in rights.items() if may)
    state = OK if able else ERROR
    command = None if able else "pluggy-sync migrate --roles"
    yield Check(state, AREA, f"the role {facts.role} may {able or 'do nothing here'}", command)


def _pooler(settings: Environment, *, is_pooled: bool) -> Iterator[Check]:
    """Postgres tells its own process number; a pooler tells another at the connection's start."""
    if not is_pooled:
        return
    if settings.database_statement_cache:
        what = "a pooler is in between: before PgBouncer 1.21 it has no prepared statements"
        yield Check(WARNING, AREA, what, "export DATABASE_STATEMENT_CACHE=0")
    if settings.database_direct_url is None:
        what = "a pooler is in between, and migrations have to go around it"
        yield Check(WARNING, AREA, what, "export DATABASE_DIRECT_URL=postgresql://…")


async def _deliveries(db: Pool) -> list[Check]:
    refused = await doctor.refused_deliveries(db)
    found = [
        Check(
            WARNING,
            "deliveries",
            counted(row.deliveries, "delivery was", "deliveries were")
            + f" refused within the last hour: {row.answer}",
            "pluggy-sync webhooks test" if row.answer == "unauthorized" else None,
        )
        for row in refused
    ]
    return found or [Check(OK, "deliveries", "none of the last hour was refused")]
