"""`pluggy-sync items`: register items that exist already, show one, report one as deleted."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TextIO

import click
import msgspec

from ops.cli.console import (
    CommandFailed,
    as_rows,
    database,
    json_option,
    print_fields,
    print_json,
    print_rows,
    run,
    say,
)
from ops.cli.item_ids import Line, read_ids
from ops.cli.wakeup import wake
from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import parse_webhook, registration
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.infra.settings import Environment, load
from worker.store import operating

GROUP: Final = 500
ANSWER_TIMEOUT_S: Final = 15.0
OPEN_EVENTS_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one line: accepted, duplicate (known already) or refused, with its reason."""

    line: int
    item_id: str
    status: str
    reason: str | None = None


@click.group()
def items() -> None:
    """Register items and look at them."""


@items.command("register")
@click.argument("item_ids", nargs=-1, required=True, metavar="ID...")
@json_option
def register(item_ids: tuple[str, ...], as_json: bool) -> None:
    """Mirror items that exist at Pluggy, at once."""
    _report(run(_register_now(read_each(item_ids))), as_json)


@items.command("deleted")
@click.argument("item_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@json_option
def deleted(item_ids: tuple[uuid.UUID, ...], as_json: bool) -> None:
    """Say that items were deleted at Pluggy, where its item/deleted was lost.

    As the webhook does it, this only has Pluggy asked: an item that is still there stays.
    """
    _report(run(_tell_deleted(item_ids)), as_json)


async def _tell_deleted(item_ids: Sequence[uuid.UUID]) -> list[Answer]:
    settings = load(Environment)
    now = datetime.now(UTC)
    bodies = [{"event": "item/deleted", "itemId": str(item_id)} for item_id in item_ids]
    events = [parse_webhook(json.dumps(body).encode(), now) for body in bodies]
    async with database(settings) as db:
        stored = await accept_events(db, events, timeout_s=ANSWER_TIMEOUT_S)
    await wake(settings, item_ids)
    lines = [Line(number, str(item_id), item_id) for number, item_id in enumerate(item_ids, 1)]
    return [
        _answer(line, item_id, accepted)
        for line, item_id, accepted in zip(lines, item_ids, stored, strict=True)
    ]


@items.command("import")
@click.argument("file", type=click.File(encoding="utf-8-sig", errors="replace"))
@json_option
def import_(file: TextIO, as_json: bool) -> None:
    """Mirror the items of a list, after everything that is more urgent.

    FILE has one id a line, or is a CSV file with an itemId column; - is standard input.
    """
    _report(run(_import(read_ids(file))), as_json)


def read_each(item_ids: Iterable[str]) -> Iterator[Line]:
    """Ids of a command line, numbered from one."""
    for number, text in enumerate(item_ids, start=1):
        yield from (Line(number, text, line.item_id) for line in read_ids([text]))


async def _register_now(lines: Iterable[Line]) -> list[Answer]:
    settings = load(Environment)
    async with database(settings) as db:
        answers, due = await _register(db, lines, Lane.LIVE)
    await wake(settings, due)
    return answers


async def _import(lines: Iterable[Line]) -> list[Answer]:
    """Nobody is woken for: the sweep takes them up as fast as slots and rate limits allow."""
    async with database(load(Environment)) as db:
        answers, _ = await _register(db, lines, Lane.BACKFILL)
    return answers


async def _register(
    db: Pool, lines: Iterable[Line], lane: Lane
) -> tuple[list[Answer], list[uuid.UUID]]:
    """Store a registration for each line; returns the answers and the items that are due now."""
    answers: list[Answer] = []
    due: list[uuid.UUID] = []
    remaining = iter(lines)
    while group := list(islice(remaining, GROUP)):
        readable = [(line, line.item_id) for line in group if line.item_id is not None]
        now = datetime.now(UTC)
        stored = await accept_events(
            db,
            [registration(item_id, now, lane=lane) for _, item_id in readable],
            timeout_s=ANSWER_TIMEOUT_S,
        )
        answered = {
            line.number: _answer(line, item_id, accepted)
            for (line, item_id), accepted in zip(readable, stored, strict=True)
        }
        answers += [answered.get(line.number) or _refused(line) for line in group]
        due += [
            item_id
            for (_, item_id), accepted in zip(readable, stored, strict=True)
            if isinstance(accepted, Accepted) and accepted.made_due
        ]
    return answers, due


def _answer(line: Line, item_id: uuid.UUID, accepted: Accepted | UnstorableEvent) -> Answer:
    if isinstance(accepted, UnstorableEvent):
        return Answer(line.number, str(item_id), "refused", "Postgres refuses it")
    return Answer(line.number, str(item_id), "accepted" if accepted.is_new else "duplicate")


def _refused(line: Line) -> Answer:
    return Answer(line.number, line.text[:80], "refused", "no UUID")


def _report(answers: Sequence[Answer], as_json: bool) -> None:
    """Exit status 1 if any line was refused; the others are registered all the same."""
    counts = Counter(answer.status for answer in answers)
    summary = {status: counts[status] for status in ("accepted", "duplicate", "refused")}
    if as_json:
        print_json(summary | {"lines": [asdict(answer) for answer in answers]})
    else:
        for answer in answers:
            reason = f" ({answer.reason})" if answer.reason else ""
            say(f"line {answer.line}: {answer.item_id} {answer.status}{reason}")
        click.echo(", ".join(f"{count} {status}" for status, count in summary.items()))
    if counts["refused"]:
        raise CommandFailed(f"{counts['refused']} of {len(answers)} lines were refused")


@items.command("show")
@click.argument("item_id", type=click.UUID, metavar="ID")
@json_option
def show(item_id: uuid.UUID, as_json: bool) -> None:
    """What is held of an item, how fresh it is, and what is still to be done. No personal data."""
    shown = run(_load(item_id))
    if as_json:
        print_json(shown)
        return
    print_fields(shown["item"])
    for title in ("rows", "freshness", "walks", "open_events", "dead_letters"):
        print_rows(title.replace("_", " "), shown[title])


async def _load(item_id: uuid.UUID) -> dict[str, Any]:
    async with database(load(Environment)) as db:
        item = await operating.show_item(db, item_id)
        if item is None:
            raise CommandFailed(f"nothing is known of item {item_id}; register it first")
        return {
            "item": msgspec.structs.asdict(item),
            "rows": as_rows(await operating.count_item_rows(db, item_id)),
            "freshness": as_rows(await operating.item_freshness(db, item_id)),
            "walks": as_rows(await operating.item_walks(db, item_id)),
            "open_events": as_rows(
                await operating.item_open_events(db, item_id, limit=OPEN_EVENTS_SHOWN)
            ),
            "dead_letters": as_rows(
                await operating.list_dead_letters(
                    db, ids=None, reason=None, item_id=item_id, connector_id=None, limit=None
                )
            ),
        }
