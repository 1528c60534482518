"""`pluggy-sync items register`, `import` and `deleted`: name items that exist, or have gone."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TextIO

import click

from ops.cli import console
from ops.cli.item_ids import Line, read_ids
from ops.cli.pluggy import UNKNOWN_TO_PLUGGY, list_items, unknown_at_pluggy
from ops.cli.terminal_text import counted
from ops.cli.wakeup import wake
from worker.infra.lanes import Lane
from worker.infra.parsing import parse_uuid

if TYPE_CHECKING:
    from worker.inbox.accept import Accepted, UnstorableEvent
    from worker.inbox.events import WebhookEvent

GROUP: Final = 100
NO_LIST: Final = ": one id a line, a CSV with a column itemId, or JSON is read, as UTF-8"
ANSWER_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one line: accepted, duplicate (known already) or refused, with its reason."""

    line: int
    item_id: str
    status: str
    reason: str | None = None


@click.command("register")
@click.argument("item_ids", nargs=-1, required=True, metavar="ID...")
@console.json_option
def register(item_ids: tuple[str, ...], as_json: bool) -> None:
    """Mirror items that exist at Pluggy, before all other work.

    An id that Pluggy does not know is refused, where PLUGGY_CLIENT_ID is set to ask for it; else a
    worker finds out and ignores it.
    """
    _report(console.run(_register(list(read_each(item_ids)))), as_json)


async def _register(lines: list[Line]) -> list[Answer]:
    from worker.inbox.events import registration

    unknown = await unknown_at_pluggy(line.item_id for line in lines if line.item_id is not None)
    stored = await _store([line for line in lines if line.item_id not in unknown], registration)
    refused = [
        Answer(line.number, str(line.item_id), "refused", UNKNOWN_TO_PLUGGY)
        for line in lines
        if line.item_id in unknown
    ]
    return sorted([*stored, *refused], key=lambda answer: answer.line)


@click.command("deleted")
@click.argument("item_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@console.json_option
def deleted(item_ids: tuple[uuid.UUID, ...], as_json: bool) -> None:
    """Report items that were deleted at Pluggy and whose item/deleted webhook was lost.

    Like the webhook, this only makes a worker read the item; an item that still exists stays.
    """
    lines = [Line(number, str(item_id), item_id) for number, item_id in enumerate(item_ids, 1)]
    _report(console.run(_store(lines, _deletion)), as_json)


def _deletion(item_id: uuid.UUID, now: datetime) -> WebhookEvent:
    from worker.inbox.events import parse_webhook

    body = {"event": "item/deleted", "itemId": str(item_id)}
    return parse_webhook(json.dumps(body).encode(), now)


@click.command("import")
@click.argument("file", type=click.File(encoding="utf-8-sig", errors="replace"), required=False)
@click.option("--from-pluggy", is_flag=True, help="All that Pluggy lists, where it has enabled it.")
@console.json_option
def import_(file: TextIO | None, from_pluggy: bool, as_json: bool) -> None:
    """Mirror the items of a list, behind all more urgent work.

    FILE has one id a line, is a CSV file with an itemId column, or JSON: a list of ids or of
    objects with itemId, also below "items"; - is standard input. Importing it again continues
    where an import has ended. Pluggy's own list leaves out the items of MeuPluggy.
    """
    if (file is None) != from_pluggy:
        raise click.UsageError("name a file, or --from-pluggy")
    from worker.inbox.events import registration

    lines = console.run(list_items()) if file is None else read_ids(file)
    # No worker is woken: the sweep takes the items up as fast as slots and rate limits allow.
    in_backfill = partial(registration, lane=Lane.BACKFILL)
    _report(console.run(_store(lines, in_backfill, wakes=False)), as_json, NO_LIST)


def read_each(item_ids: Iterable[str]) -> Iterator[Line]:
    """Ids of a command line, numbered from one."""
    for number, text in enumerate(item_ids, start=1):
        yield Line(number, text, parse_uuid(text.strip()))


async def _store(
    lines: Iterable[Line],
    event_of: Callable[[uuid.UUID, datetime], WebhookEvent],
    *,
    wakes: bool = True,
) -> list[Answer]:
    """Store an event for each line that holds an id, and wake workers for what is due now."""
    from worker.inbox.accept import Accepted, accept_events
    from worker.infra.settings import DatabaseSettings, Environment, load

    settings = load(Environment if wakes else DatabaseSettings)
    answers: list[Answer] = []
    due: list[uuid.UUID] = []
    remaining = iter(lines)
    async with console.database(settings) as db:
        while group := list(islice(remaining, GROUP)):
            ids = [(line.number, line.item_id) for line in group if line.item_id is not None]
            now = datetime.now(UTC)
            events = [event_of(item_id, now) for _, item_id in ids]
            stored = await accept_events(db, events, timeout_s=ANSWER_TIMEOUT_S)
            found = {number: each for (number, _), each in zip(ids, stored, strict=True)}
            answers += [_answer(line, found.get(line.number)) for line in group]
            due += [
                item_id
                for number, item_id in ids
                if isinstance(accepted := found[number], Accepted) and accepted.made_due
            ]
    if isinstance(settings, Environment):
        await wake(settings, due)
    return answers


def _answer(line: Line, accepted: Accepted | UnstorableEvent | None) -> Answer:
    """accepted: None for a line without an id."""
    from worker.inbox.accept import UnstorableEvent

    if line.item_id is None or accepted is None:
        return Answer(line.number, line.text[:80], "refused", "no UUID")
    if isinstance(accepted, UnstorableEvent):
        return Answer(line.number, str(line.item_id), "refused", "Postgres refuses it")
    status = "accepted" if accepted.is_new else "duplicate"
    return Answer(line.number, str(line.item_id), status)


def _report(answers: Sequence[Answer], as_json: bool, hint_if_all_refused: str = "") -> None:
    """Exit status 1 if any line was refused; the others are registered all the same."""
    counts = Counter(answer.status for answer in answers)
    summary = {status: counts[status] for status in ("accepted", "duplicate", "refused")}
    if as_json:
        console.print_json(summary | {"lines": [asdict(answer) for answer in answers]})
    else:
        for answer in answers:
            reason = f" ({answer.reason})" if answer.reason else ""
            console.say(f"line {answer.line}: {answer.item_id} {answer.status}{reason}")
        click.echo(", ".join(f"{count} {status}" for status, count in summary.items()))
    if not answers:
        click.echo("pluggy-sync: warning: the list names no item", err=True)
    if counts["refused"]:
        text = f"{counts['refused']} of {counted(len(answers), 'line was', 'lines were')} refused"
        hint = "" if counts["refused"] < len(answers) else hint_if_all_refused
        raise console.CommandFailed(text + hint)
