"""`pluggy-sync status` and `worklist`: findings, who has to act, and the command that helps."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from ops.cli import console
from ops.cli.terminal_text import counted

if TYPE_CHECKING:
    from worker.inbox.spool import Figures

T = TypeVar("T")
Row = dict[str, Any]

LIGHTS: Final = ("green", "yellow", "red")
RED: Final = 2
YELLOW: Final = 1
SPOOLED_TIMEOUT_S: Final = 60
WATCH_INTERVAL_S: Final = 5.0
FOR_PEOPLE: Final = ("severity", "kind", "blocked_on", "since", "how_many", "what", "command")
OF_AN_ITEM: Final = (
    "severity",
    "kind",
    "item_id",
    "connector_name",
    "since",
    "due_at",
    "what",
    "command",
)


KINDS: Final = (
    "subscription",
    "missed_webhooks",
    "item_not_found",
    "dead_letters",
    "refused_by_pluggy",
    "flagged_deletions",
    "events_kept",
    "rows_rejected",
    "list_length_unknown",
    "verify_late",
    "never_due",
    "purge_late",
    "reads_failing",
    "collection_overdue",
    "collection_stuck",
    "subscriptions_unchecked",
    "bank_error",
    "monthly_quota",
    "bank_warning",
    "item_not_registered",
    "account_link",
    "connector_withdrawn",
    "reconnect",
    "consent_expiring",
    "waiting_for_user",
    "authorization_pending",
    "no_auto_sync",
)
"""Of the worklist, in its order; sql/views/78_sync_work.sql defines them."""


class CannotTell(console.CommandFailed):
    """The state is unknown, because Postgres cannot be asked."""

    exit_code = 3


@click.command()
@click.option("--strict", is_flag=True, help="Yellow is exit status 1.")
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until Ctrl-C.")
@console.json_option
@click.pass_context
def status(context: click.Context, strict: bool, watch: bool, as_json: bool) -> None:
    """List what is wrong or waits for somebody, the heaviest first, with the command that helps.

    Exit status: 0 green, also yellow without --strict; 1 yellow; 2 red; 3 cannot tell. With --json
    a document is printed also if Postgres cannot be asked; its light is then null.
    """
    if watch:
        _watch(as_json)
    light = _print_status(as_json)
    context.exit(RED if light == "red" else YELLOW if strict and light == "yellow" else 0)


def _watch(as_json: bool) -> NoReturn:
    """Show the state again and again; an outage is shown too, and does not end it."""
    while True:
        click.clear()
        try:
            _print_status(as_json)
        except CannotTell as failed:
            failed.show()
        time.sleep(WATCH_INTERVAL_S)


def _print_status(as_json: bool) -> str:
    """Print the state; returns the light. Raises CannotTell."""
    spool = _ask(_load_spool())
    # First, because it is all that can be shown while Postgres is away.
    if spool and spool.entries and not as_json:
        console.print_rows("spooled in Redis until Postgres takes it", [asdict(spool)])
    try:
        found = _ask(_load())
    except CannotTell as failed:
        if as_json:
            console.print_json(_unknown(failed, spool))
        raise
    found["findings"] = _in_order(found["findings"], _of_redis(spool))
    found["overview"] |= _light(found["findings"])
    if spool is None:
        warning = "Redis does not answer at REDIS_URL; workers take what is due from Postgres"
        click.echo(f"pluggy-sync: warning: {warning}, more slowly", err=True)
    if as_json:
        console.print_json(found | {"spool": spool})
    else:
        _show(found)
    return str(found["overview"]["light"])


def _unknown(failed: CannotTell, spool: Figures | None) -> Row:
    """The document of a state that is not known: what Redis says is all there is."""
    overview = {"light": None, "sentence": failed.message, "since": None}
    findings = [_finding("cannot_tell", 99, failed.message), *_of_redis(spool)]
    return {
        "overview": overview,
        "findings": _in_order(findings, []),
        "backlog": [],
        "lag": [],
        "spool": spool,
    }


def _show(found: Row) -> None:
    console.print_fields(found["overview"])
    console.print_rows(
        "findings", [{name: row[name] for name in FOR_PEOPLE} for row in found["findings"]]
    )
    console.print_rows("backlog", found["backlog"])
    console.print_rows("from webhook to row, last hour", found["lag"])


@click.command()
@click.option(
    "--kind", type=click.Choice(KINDS), metavar="KIND", help="Of this kind of finding only."
)
@console.item_option
@console.limit_option
@console.json_option
def worklist(as_json: bool, **chosen: Any) -> None:
    """List the findings one by one: each item or webhook, and since when."""
    from worker.store import operating

    found = console.load_rows(operating.list_worklist, **chosen)
    console.print_list("worklist", found, as_json=as_json, columns=OF_AN_ITEM)


def _ask(work: Coroutine[Any, Any, T]) -> T:
    try:
        return console.run(work)
    except console.CommandFailed as failed:
        raise CannotTell(failed.message) from failed


def _of_redis(spool: Figures | None) -> list[Row]:
    """Findings that only Redis can report. spool: None if it does not answer."""
    if spool is None:
        what = "Redis does not answer at REDIS_URL: workers take what is due from Postgres, slowly."
        return [_finding("redis_outage", 92, what)]
    if spool.entries and spool.oldest_age_s > SPOOLED_TIMEOUT_S:
        what = counted(spool.entries, "event waits", "events wait")
        what += " in Redis for Postgres: see the logs of the workers."
        return [_finding("spool_waits", 91, what, how_many=spool.entries)]
    return []


def _finding(kind: str, weight: int, what: str, *, how_many: int = 1) -> Row:
    return {
        "severity": "yellow",
        "kind": kind,
        "blocked_on": "us",
        "what": what,
        "since": None,
        "how_many": how_many,
        "command": None,
        "weight": weight,
    }


def _in_order(known: list[Row], seen_here: list[Row]) -> list[Row]:
    """The heaviest first; a finding that workers have reported is not repeated."""
    kinds = {row["kind"] for row in known}
    found = known + [row for row in seen_here if row["kind"] not in kinds]
    return sorted(found, key=lambda row: -row["weight"])


def _light(findings: list[Row]) -> Row:
    """Light, sentence and since by all findings, in place of those of Postgres alone."""
    coloured = [row for row in findings if row["severity"] in LIGHTS]
    if not coloured:
        return {"light": "green"}
    worst = coloured[0]
    return {
        "light": worst["severity"],
        "sentence": worst["what"],
        "since": worst["since"],
        "findings": len(coloured),
    }


async def _load_spool() -> Figures | None:
    """None if Redis does not answer."""
    from redis.exceptions import RedisError

    from worker.inbox.spool import Spool
    from worker.infra.redis_client import connect
    from worker.infra.settings import Environment, load

    redis = connect(load(Environment).redis_url.get_secret_value())
    try:
        return await Spool(redis).figures()
    except (RedisError, OSError):
        return None
    finally:
        await redis.aclose()


async def _load() -> Row:
    import msgspec

    from worker.store import operating

    async with console.database() as db:
        overview = await operating.overview(db)
        return {
            "overview": msgspec.structs.asdict(overview) if overview else {},
            "findings": console.as_rows(await operating.findings(db)),
            "backlog": console.as_rows(await operating.backlog(db)),
            "lag": console.as_rows(await operating.lag(db)),
        }
