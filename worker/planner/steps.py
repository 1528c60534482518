"""The steps of a plan, and how steps that read the same data are merged."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from worker.infra.lanes import Lane
from worker.planner.state import WHOLE_ITEM


@dataclass(frozen=True, slots=True)
class Gone:
    """GET /items/{id} answered 404 ITEM_NOT_FOUND."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """The item could not be read in this claim; its step says until when or why."""


@dataclass(frozen=True, slots=True)
class ReadAccounts:
    """Read the accounts of the item; source_updated_at is what a complete read is stamped with.

    verifies, here and below: no newer collection is known, so what the read changes is drift.
    """

    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadProduct:
    """Read a complete list of a product: by item, or by account (bills)."""

    product: str
    scope_id: uuid.UUID
    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadInvestmentTransactions:
    """Read the movements of an investment.

    sweeps: nothing of the investment itself has changed, so others go first.
    """

    investment_id: uuid.UUID
    fingerprint: str
    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)
    sweeps: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadDelta:
    """Read an account's rows created since; expects_rows: an empty answer proves nothing."""

    account_id: uuid.UUID
    created_at_from: datetime
    expects_rows: bool
    source_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReadRecent:
    """Read an account's rows of the last days again: a lost event about one of them is healed."""

    account_id: uuid.UUID
    date_from: date


@dataclass(frozen=True, slots=True)
class AskIds:
    """Ask by id for the rows that these events name; absence is judged by the rule of absence.py.

    ids_open: how many ids these are at most, for events may name the same. deleting: those of the
    events that say that their rows are deleted.
    """

    account_id: uuid.UUID
    event_ids: tuple[int, ...]
    ids_open: int
    deleting: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Ask again for an account's rows that are flagged because no witness could be asked."""

    account_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class AskWalk:
    """Have all pages of an account read, page by page, in the lane given.

    for_unreadable: it stands for ids that an event named and nobody could read.
    """

    account_id: uuid.UUID
    lane: Lane
    expects_rows: bool
    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)
    for_unreadable: bool = False


@dataclass(frozen=True, slots=True)
class TombstoneItem:
    """Tombstone the item and all it owns: item/deleted and 404 together prove it."""


PlannedStep = (
    ReadAccounts
    | ReadProduct
    | ReadInvestmentTransactions
    | ReadDelta
    | ReadRecent
    | AskIds
    | AskAgain
    | AskWalk
    | TombstoneItem
)


def step_key(step: PlannedStep) -> tuple[str, str, uuid.UUID]:
    """What a step reads: one step per key is taken in a claim."""
    match step:
        case ReadProduct(product, scope_id):
            return "ReadProduct", product, scope_id
        case ReadInvestmentTransactions(investment_id):
            return "ReadInvestmentTransactions", "investment_transactions", investment_id
        case (
            ReadDelta(account_id)
            | ReadRecent(account_id)
            | AskIds(account_id)
            | AskAgain(account_id)
            | AskWalk(account_id)
        ):
            return type(step).__name__, "transactions", account_id
        case ReadAccounts() | TombstoneItem():
            return type(step).__name__, "items", WHOLE_ITEM


def is_drift(step: PlannedStep) -> bool:
    """Whether what a step changes at once is drift; a walk's page says so by its own mark."""
    reads = ReadAccounts | ReadProduct | ReadInvestmentTransactions
    return isinstance(step, reads) and step.verifies


def is_sweep(step: PlannedStep) -> bool:
    """Whether a step reads again what shows no change, and so goes behind live work."""
    return isinstance(step, ReadInvestmentTransactions) and step.sweeps


def lists_after_accounts(steps: Sequence[PlannedStep]) -> Sequence[PlannedStep]:
    """Without the other lists as long as that of accounts is to be read.

    What it leads to, new rows before all, goes before them.
    """
    if not any(isinstance(step, ReadAccounts) for step in steps):
        return steps
    return [s for s in steps if not isinstance(s, ReadProduct | ReadInvestmentTransactions)]


def merge_steps(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """One step per thing to read: several events never cause the same read twice."""
    merged: dict[tuple[str, str, uuid.UUID], PlannedStep] = {}
    for step in steps:
        key = step_key(step)
        merged[key] = _joined(merged[key], step) if key in merged else step
    return _long_questions_last(_without_early_movements(list(merged.values())))


def _long_questions_last(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Thousands of ids take several claims: they take the time that the other steps leave."""
    return sorted(steps, key=lambda step: step.ids_open if isinstance(step, AskIds) else 0)


def _without_early_movements(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Movements wait for the list that tells which investments have changed."""
    if not any(isinstance(s, ReadProduct) and s.product == "investments" for s in steps):
        return steps
    return [step for step in steps if not isinstance(step, ReadInvestmentTransactions)]


def _joined(first: PlannedStep, second: PlannedStep) -> PlannedStep:
    if isinstance(first, ReadDelta) and isinstance(second, ReadDelta):
        return replace(
            first,
            created_at_from=min(first.created_at_from, second.created_at_from),
            expects_rows=first.expects_rows or second.expects_rows,
        )
    if isinstance(first, AskIds) and isinstance(second, AskIds):
        return replace(
            first,
            event_ids=first.event_ids + second.event_ids,
            ids_open=first.ids_open + second.ids_open,
            deleting=first.deleting | second.deleting,
        )
    if isinstance(first, AskWalk) and isinstance(second, AskWalk):
        return replace(
            first,
            lane=min(first.lane, second.lane),
            expects_rows=first.expects_rows or second.expects_rows,
            for_unreadable=first.for_unreadable or second.for_unreadable,
        )
    return first
