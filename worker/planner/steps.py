"""The steps of a plan, and how steps that read the same data are merged."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from worker.infra.lanes import Lane
from worker.planner.state import WHOLE_ITEM


@dataclass(frozen=True, slots=True)
class Gone:
    """GET /items/{id} answered 404 ITEM_NOT_FOUND."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """The item could not be read in this session; its step has the reason and the next try."""


@dataclass(frozen=True, slots=True)
class ReadAccounts:
    """Read the accounts of the item. source_updated_at: collection time to store with the read.

    verifies, here and below: no newer collection is known, so changes found are drift.
    """

    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadProduct:
    """Read the complete list of a product, by item or by account."""

    product: str
    scope_id: uuid.UUID
    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadInvestmentTransactions:
    """Read the transactions of an investment.

    sweeps: the investment itself has not changed, so changed ones go first.
    """

    investment_id: uuid.UUID
    fingerprint: str
    source_updated_at: datetime | None
    verifies: bool = field(default=False, compare=False)
    sweeps: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ReadDelta:
    """Read an account's rows created since a time. expects_rows: an empty answer is suspicious."""

    account_id: uuid.UUID
    created_at_from: datetime
    expects_rows: bool
    source_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReadRecent:
    """Read an account's recent rows again, to repair the effects of lost events."""

    account_id: uuid.UUID
    date_from: date


@dataclass(frozen=True, slots=True)
class AskIds:
    """Read by id the rows that these events name; sync/deletions.py judges absent ones.

    ids_open: maximum number of ids; events may share some. deleting: the events that announce
    deletions.
    """

    account_id: uuid.UUID
    event_ids: tuple[int, ...]
    ids_open: int
    deleting: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Read again an account's deletion candidates for which no witness was available."""

    account_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class AskWalk:
    """Order a walk: all pages of an account, read page by page in the given lane.

    for_unreadable: the walk replaces ids of an event that could not be read.
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
    """Key of the data that a step reads; a plan has one step per key."""
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
    """Whether changes by a step are drift; walks have a mark of their own."""
    reads = ReadAccounts | ReadProduct | ReadInvestmentTransactions
    return isinstance(step, reads) and step.verifies


def is_sweep(step: PlannedStep) -> bool:
    """Whether a step reads data without a visible change, and so goes after live work."""
    return isinstance(step, ReadInvestmentTransactions) and step.sweeps


def in_order(steps: Sequence[PlannedStep]) -> Sequence[PlannedStep]:
    """The steps as they are begun; while the list of accounts is still to be read, it comes first.

    Beside it go new rows of the accounts that are known, questions by id, and the other lists, in
    this order. Left for the next plan are walks and movements of investments, which follow from
    lists, and new rows that no event announces of accounts that have a question.
    """
    if not any(isinstance(step, ReadAccounts) for step in steps):
        return steps
    asked = {step.account_id for step in steps if isinstance(step, AskIds | AskAgain)}
    return sorted((step for step in steps if not _goes_behind(step, asked)), key=_rank)


def _goes_behind(step: PlannedStep, asked: Collection[uuid.UUID]) -> bool:
    if isinstance(step, ReadDelta):
        return step.account_id in asked and not step.expects_rows
    return isinstance(step, AskWalk | ReadInvestmentTransactions)


def _rank(step: PlannedStep) -> int:
    if isinstance(step, ReadAccounts):
        return 0
    return 2 if isinstance(step, ReadProduct) else 1


def merge_steps(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """Merge steps by their key: several events never cause the same read twice."""
    merged: dict[tuple[str, str, uuid.UUID], PlannedStep] = {}
    for step in steps:
        key = step_key(step)
        merged[key] = _joined(merged[key], step) if key in merged else step
    return _long_questions_last(_without_early_movements(list(merged.values())))


def _long_questions_last(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Sort reads by id to the end, long ones last: thousands of ids take several sessions."""
    return sorted(steps, key=lambda step: step.ids_open if isinstance(step, AskIds) else 0)


def _without_early_movements(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Drop investment transactions until the list of investments has been read."""
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
