"""The console of all commands: database connection, output as table or JSON, errors in one line.

What a command runs with is imported when it runs: its help needs neither servers' clients nor
settings, and tables and explanations are needed by few.
"""

from __future__ import annotations

import errno
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
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ops.cli.errors import CommandFailed as CommandFailed
from ops.cli.terminal_text import neutral, neutral_json

if TYPE_CHECKING:
    import msgspec

    from worker.infra.postgres import Pool
    from worker.infra.settings import DatabaseSettings

T = TypeVar("T")

OF_OUTPUT: Final = (errno.EPIPE, errno.ENOSPC)
"""What no server's answer fails with: the reader of our output has gone, or its disk is full."""
BAD_URL: Final = "DATABASE_URL: cannot be read as the URL of a Postgres database"

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


def deliverable_url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """An option's URL for Pluggy's deliveries. Raises click.BadParameter."""
    if url is None or url.startswith("https://"):
        return url
    from worker.infra.settings import is_on_loopback

    with suppress(ValueError):
        if url.startswith("http://") and is_on_loopback(url):
            return url
    raise click.BadParameter("starts with https://, or with http:// on loopback")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; whatever fails becomes a CommandFailed that says what to look at."""
    import asyncio

    try:
        return asyncio.run(work)
    except click.ClickException:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_OUTPUT:
            raise  # by main(), which says nothing of a closed pipe
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        from ops.cli.explanations import explain

        raise CommandFailed(explain(error)) from error


@asynccontextmanager
async def database(settings: DatabaseSettings | None = None) -> AsyncIterator[Pool]:
    """A connected pool, by the environment if no settings are given.

    Raises CommandFailed if the URL is none, SettingsError, UnreleasedDatabase, asyncpg's errors.
    """
    from worker.infra.baseline import check_baseline
    from worker.infra.postgres import close_pool, open_pool
    from worker.infra.settings import DatabaseSettings, load

    settings = settings or load(DatabaseSettings)
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
    import msgspec

    encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
    click.echo(neutral_json(encoder.encode(document).decode()))


def as_rows(found: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    """Rows of a statement as documents, by column."""
    import msgspec

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
    found, is_terminal = list(rows), sys.stdout.isatty()
    if not found:
        click.echo(f"{title}: none", err=not is_terminal)
    elif is_terminal:
        from ops.cli.tables import console, show_rows

        show_rows(console(), title, found)
    else:
        click.echo("\t".join(found[0]))
        for row in found:
            click.echo("\t".join(map(_plain, row.values())))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line; with a tab between them in a pipe."""
    if sys.stdout.isatty():
        from ops.cli.tables import console, fields_table

        console().print(fields_table(fields))
        return
    for name, value in fields.items():
        click.echo(f"{name}\t{_plain(value)}")


def say(line: str) -> None:
    """A line for people, whatever Pluggy or a file has put into it."""
    click.echo(neutral(line))


def _plain(value: Any) -> str:
    """A value for another program: times as RFC 3339, numbers without commas, null empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    return neutral(",".join(map(str, value)) if isinstance(value, list) else str(value))
