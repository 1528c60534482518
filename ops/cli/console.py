"""The console of all commands: database connection, output as table or JSON, errors in one line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import asyncpg
import click
import msgspec
from redis.exceptions import RedisError
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ops.cli.errors import CommandFailed as CommandFailed
from ops.cli.terminal_text import neutral, neutral_json
from ops.migrations import MigrationRefused
from ops.roles import RolesRefused
from worker.infra.baseline import UnreleasedDatabase, check_baseline
from worker.infra.outage_words import Outage, postgres_outage, redis_outage
from worker.infra.postgres import Pool, close_pool, open_pool, why_refused
from worker.infra.settings import Environment, SettingsError, load
from worker.maintenance.installation import ForeignInstallation

T = TypeVar("T")

PIPE_WIDTH: Final = 200
"""Where there is no terminal; tables are as wide as they need, so that grep finds whole ids."""
WIDEST: Final = 10_000
BAD_URL: Final = "DATABASE_URL: cannot be read as the URL of a Postgres database"
ABOUT_US: Final = (
    SettingsError,
    MigrationRefused,
    RolesRefused,
    ForeignInstallation,
    UnreleasedDatabase,
)
CONNECTION_ERRORS: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)

# Postgres's own bounds: a larger number is refused as a usage error.
CONNECTOR_ID: Final = click.IntRange(0, 2**31 - 1)
ROW_ID: Final = click.IntRange(0, 2**63 - 1)
LIMIT: Final = click.IntRange(1, 2**63 - 1)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
item_option = click.option("--item", "item_id", type=click.UUID, help="Of this item only.")
reason_option = click.option("--reason", help="With this reason only.")
connector_option = click.option(
    "--connector", "connector_id", type=CONNECTOR_ID, help="Of items of this connector only."
)
limit_option = click.option("--limit", type=LIMIT, default=100, help="At most so many.")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; whatever fails becomes a CommandFailed that says what to look at."""
    try:
        return asyncio.run(work)
    except click.ClickException:
        raise
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        raise CommandFailed(explain(error)) from error


def explain(error: Exception, *, database: str = "DATABASE_URL") -> str:
    """One line for a person; never with a URL or a library's words about it, which may hold a
    password. database: what names the one that was asked."""
    if isinstance(error, ABOUT_US):
        return " ".join(str(error).split())
    if reason := why_refused(error):
        word = postgres_outage(error)
        return reason if word is Outage.POSTGRES_AWAY else f"{reason} ({word})"
    name = type(error).__name__
    if isinstance(error, CONNECTION_ERRORS):
        return f"Postgres does not answer at {database} ({postgres_outage(error)}: {name})"
    if isinstance(error, RedisError):
        return f"Redis does not answer at REDIS_URL ({redis_outage(error)}: {name})"
    if isinstance(error, asyncpg.PostgresError):
        return f"Postgres refuses: {error.sqlstate} {name}"
    return f"unexpected {name}; LOG_LEVEL=DEBUG shows where"


@asynccontextmanager
async def database(settings: Environment | None = None) -> AsyncIterator[Pool]:
    """A connected pool, by the environment if no settings are given.

    Raises CommandFailed if the URL is none, SettingsError, UnreleasedDatabase, asyncpg's errors.
    """
    settings = settings or load(Environment)
    url = settings.database_url.get_secret_value()
    pool = await open_pool(url, max_size=2, statement_cache=settings.database_statement_cache)
    try:
        try:
            await check_baseline(pool)
        except ValueError as error:  # asyncpg's complaints about a URL are of this kind
            raise CommandFailed(BAD_URL) from error
        yield pool
    finally:
        await close_pool(pool)


def print_json(document: object) -> None:
    """One document on one line: times as RFC 3339, money as numbers."""
    click.echo(neutral_json(_encoder.encode(document).decode()))


def as_rows(found: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    """Rows of a statement as documents, by column."""
    return [msgspec.structs.asdict(row) for row in found]


def call(work: Callable[..., Awaitable[T]], **parameters: Any) -> T:
    """Run a statement, or more work, on the database of DATABASE_URL."""

    async def call_it() -> T:
        async with database() as db:
            return await work(db, **parameters)

    return run(call_it())


def load_rows(
    statement: Callable[..., Awaitable[Iterable[msgspec.Struct]]], **parameters: Any
) -> list[dict[str, Any]]:
    """Rows of one statement, as documents."""
    return as_rows(call(statement, **parameters))


def print_list(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    title: str | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """The rows under a name as JSON, or as a table of some columns. title: else the name."""
    if as_json:
        print_json({name: rows})
        return
    shown = (
        rows if columns is None else [{column: row[column] for column in columns} for row in rows]
    )
    print_rows(title or name.replace("_", " "), shown)


def print_rows(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """A table on a terminal; in a pipe the names of the columns, then a line a row, with tabs.

    That there is nothing to show is said to a person only: on a terminal, or on standard error.
    """
    found, shown = list(rows), console()
    if not found:
        click.echo(f"{title}: none", err=not shown.is_terminal)
    elif shown.is_terminal:
        show_rows(shown, title, found)
    else:
        click.echo("\t".join(found[0]))
        for row in found:
            click.echo("\t".join(map(_plain, row.values())))


def show_rows(shown: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """As a table; a terminal that is too narrow for it gets one block for each row, without what is
    empty, because ids that are cut in pieces can be neither read nor copied."""
    table = Table(title=title, title_justify="left")
    for name, value in rows[0].items():
        justify: JustifyMethod = "right" if isinstance(value, Decimal) else "left"
        table.add_column(name.replace("_", " "), overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    wide = Measurement.get(shown, shown.options.update(width=WIDEST), table).maximum
    if wide > shown.width and shown.is_terminal:
        shown.print(f"{title}: {len(rows)}", style="italic")
        for row in rows:
            shown.print(fields_table({name: v for name, v in row.items() if v is not None}))
            shown.print()
        return
    shown.width = max(shown.width, wide)
    shown.print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line; with a tab between them in a pipe."""
    shown = console()
    if shown.is_terminal:
        shown.print(fields_table(fields))
        return
    for name, value in fields.items():
        click.echo(f"{name}\t{_plain(value)}")


def fields_table(fields: Mapping[str, Any]) -> Table:
    """Names and values, one a line."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), _cell(value))
    return table


def console(*, to_stderr: bool = False) -> Console:
    """Where to print; as wide as the terminal, if there is one."""
    is_terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    width = None if is_terminal else PIPE_WIDTH
    return Console(stderr=to_stderr, width=width, highlight=False)


_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def say(line: str) -> None:
    """A line for people, whatever Pluggy or a file has put into it."""
    click.echo(neutral(line))


def _cell(value: Any) -> Text:
    """No markup either: a name in brackets is a name."""
    return Text(neutral(_shown(value)))


def _plain(value: Any) -> str:
    """A value for another program: times as RFC 3339, numbers without commas, null empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    return neutral(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, Decimal) else str(value)
