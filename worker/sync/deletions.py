"""Proof of deletion for transactions: a row missing from a list is only a candidate.

It is tombstoned after a request for its id, beside rows known to exist (witnesses), has returned
all witnesses and not the row, and within a limit per account that counts over seven days. Anything
else becomes a pending deletion: asked for again, or left to a person.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.store import reconciliation
from worker.store.entities import transactions

QUESTION_SIZE: Final = 200
"""Ids per request: Pluggy allows 500, but longer URLs fail in proxies."""
WITNESSES: Final = 3
LIMIT_COUNTS_FOR: Final = timedelta(days=7)
MAX_NAMED_ROWS: Final = 20
MAX_MISSING_ROWS: Final = 3
ONE_IN: Final = 5
"""20 % of the account's rows: the limit where that is more than the numbers above."""
CONFIRM_AFTER: Final = timedelta(days=1)
MAX_ASKED_AGAIN: Final = 1000
"""Pending deletions of an account that one step asks for."""

NAMED: Final = "named"
MISSING: Final = "missing"
NO_WITNESS: Final = "no_witness"
TOO_MANY: Final = "too_many_at_once"


@dataclass(frozen=True, slots=True)
class Absence:
    """Rows that were asked for and did not come back, by strength of proof.

    proven: all witnesses came back, one of them older than the row. waiting: all came back, but no
    older row exists; the same answer a day later is proof. unproven: there was no witness, or one
    did not come back.
    """

    proven: frozenset[uuid.UUID] = frozenset()
    waiting: frozenset[uuid.UUID] = frozenset()
    unproven: frozenset[uuid.UUID] = frozenset()

    @property
    def ids(self) -> frozenset[uuid.UUID]:
        """The rows of all three kinds."""
        return self.proven | self.waiting | self.unproven

    def __or__(self, other: Absence) -> Absence:
        """Combine the absences of two questions."""
        return Absence(
            self.proven | other.proven,
            self.waiting | other.waiting,
            self.unproven | other.unproven,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """Ids of one request: suspects, and witnesses, which are live rows that nothing suspects.

    bracketed are the suspects to which one of the witnesses is older.
    """

    suspects: frozenset[uuid.UUID]
    witnesses: tuple[uuid.UUID, ...]
    bracketed: frozenset[uuid.UUID] = field(default=frozenset())

    @property
    def ids(self) -> list[uuid.UUID]:
        """All ids of the request, suspects first."""
        return [*sorted(self.suspects), *self.witnesses]

    def unanswered(self, listed: Collection[uuid.UUID]) -> bool:
        """Whether there were witnesses and none came back: then the answer proves nothing."""
        return bool(self.witnesses) and not set(listed).intersection(self.witnesses)

    def absence(self, listed: Collection[uuid.UUID]) -> Absence:
        """What an answer with these ids proves about the suspects missing from it."""
        absent = self.suspects.difference(listed)
        if not self.witnesses or not set(listed).issuperset(self.witnesses):
            return Absence(unproven=absent)
        return Absence(proven=absent & self.bracketed, waiting=absent - self.bracketed)

    @classmethod
    async def about(
        cls,
        session: SyncSession,
        account_id: uuid.UUID,
        suspects: Sequence[uuid.UUID],
        all_suspects: Sequence[uuid.UUID] = (),
        *,
        events: Sequence[int] = (),
    ) -> Question:
        """Choose witnesses for suspects: none of all_suspects, and none that the events name."""
        found = await transactions.load_witnesses(
            session.db,
            session.item_id,
            account_id,
            suspected=list(all_suspects or suspects),
            asked=list(suspects),
            event_ids=list(events),
        )
        return cls(frozenset(suspects), tuple(found.witnesses), frozenset(found.bracketed))


@dataclass(frozen=True, slots=True)
class Deletions:
    """Tombstones and pending deletions of one account, in a transaction under the lease."""

    conn: Connection
    session: SyncSession
    account_id: uuid.UUID

    @property
    def key(self) -> tuple[Connection, uuid.UUID, uuid.UUID]:
        return self.conn, self.session.item_id, self.account_id

    async def tombstone_or_mark(
        self, absence: Absence, *, named: Collection[uuid.UUID] = (), over_limit: bool = False
    ) -> None:
        """Tombstone rows whose absence is proven; the others become pending deletions.

        named are ids that a transactions/deleted named; they count against a limit of their own. A
        row that was named once stays so while it is pending. Unproven rows have the reason
        `no_witness` and are asked for again later; rows over the limit have `too_many_at_once`, for
        a person.
        over_limit: the named rows of all blocks together are over the limit.
        """
        if not absence.ids:
            return
        found = await transactions.load_absent_rows(*self.key, ids=list(absence.ids))
        rows: dict[str, list[transactions.AbsentRow]] = {NAMED: [], MISSING: []}
        for row in found:
            rows[NAMED if row.was_named or row.id in named else MISSING].append(row)
        for cause, of_cause in rows.items():
            if of_cause and cause == NAMED and over_limit:
                await self._mark(cause, TOO_MANY, [row.id for row in of_cause], absence.waiting)
            elif of_cause:
                await self._decide(absence, cause, of_cause)

    async def _decide(
        self, absence: Absence, cause: str, rows: Sequence[transactions.AbsentRow]
    ) -> None:
        ids = [row.id for row in rows]
        waiting = absence.waiting.intersection(ids)
        proven = absence.proven.intersection(ids) | _confirmed(self.session, rows, waiting)
        allowed = await self.allows(cause, len(ids))
        # Without proof it is unknown yet whether there are too many.
        reason = NO_WITNESS if allowed or absence.unproven.issuperset(ids) else TOO_MANY
        if allowed:
            await self._tombstone(cause, proven)
            ids = [row_id for row_id in ids if row_id not in proven]
        await self._mark(cause, reason, ids, waiting)

    async def allows(self, cause: str, absent: int) -> bool:
        """Whether so many more rows of the account may be tombstoned within seven days."""
        since = self.session.now - LIMIT_COUNTS_FOR
        counted = await transactions.count_deletions(
            *self.key, since=since, absent=absent, one_in=ONE_IN
        )
        before = counted.named if cause == NAMED else counted.missing
        return within_limit(cause, live=counted.live, before=before, absent=absent)

    async def _tombstone(self, cause: str, ids: Collection[uuid.UUID]) -> None:
        if ids:
            run, now = self.session.run, self.session.now
            tombstoned = await transactions.tombstone_transactions(
                *self.key, ids=list(ids), run_id=run.id, cause=cause, now=now
            )
            run.counts.deleted += len(tombstoned)

    async def _mark(
        self, cause: str, reason: str, ids: Collection[uuid.UUID], waiting: Collection[uuid.UUID]
    ) -> None:
        if not ids:
            return
        now = self.session.now
        await transactions.mark_transaction_deletions(
            *self.key,
            ids=list(ids),
            run_id=self.session.run.id,
            reason=reason,
            cause=cause,
            now=now,
            waiting=list(waiting),
        )
        if reason == NO_WITNESS:
            await reconciliation.plan_deletions(
                self.conn, self.session.item_id, due_at=now + CONFIRM_AFTER
            )


def _confirmed(
    session: SyncSession, rows: Sequence[transactions.AbsentRow], waiting: frozenset[uuid.UUID]
) -> frozenset[uuid.UUID]:
    """Waiting rows whose absence an earlier question, at least a day ago, found too."""
    latest = session.now - CONFIRM_AFTER
    return frozenset(
        row.id
        for row in rows
        if row.id in waiting and row.missing_since is not None and row.missing_since <= latest
    )


def within_limit(cause: str, *, live: int, before: int, absent: int) -> bool:
    """Whether absent of the live rows may be tombstoned, after before rows in the last days.

    Named by a transactions/deleted: the larger of 20 rows and 20 % of the account. Found missing:
    the larger of 3 rows and 20 %, and never over half.
    """
    size, gone = live + before, absent + before
    if cause == NAMED:
        return gone <= MAX_NAMED_ROWS or gone * ONE_IN <= size
    return (gone <= MAX_MISSING_ROWS or gone * ONE_IN <= size) and gone * 2 <= size


async def load_unwitnessed(session: SyncSession, account_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
    """Rows of an account pending as `no_witness`, if the account has a witness by now."""
    if not (await Question.about(session, account_id, ())).witnesses:
        return ()
    found = await transactions.load_unwitnessed(
        session.db, session.item_id, account_id, limit=MAX_ASKED_AGAIN
    )
    return tuple(found)
