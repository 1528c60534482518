"""Records the outcome of a read: complete with its watermark, or deferred if it proves nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.entities.registry import PRODUCTS
from worker.infra.postgres import Connection, Pool
from worker.lease.lease import LEASE, SyncSession
from worker.planner.freshness import NARROW_TTL, OVERLAP, bounded
from worker.planner.state import WHOLE_ITEM
from worker.store import product_sync

EMPTY_ANSWER = "empty_answer"
ROWS_OF_A_PAGE: Final = 500
"""Rows on Pluggy's page of /v2/transactions: an overlap of up to one page costs no extra request.
"""


@dataclass(frozen=True, slots=True)
class Read:
    """A read of one step: its scope, the collection that it reads, its start and its position.

    Its methods belong to the transaction of its last page.
    """

    session: SyncSession
    product: str
    scope_id: uuid.UUID
    source_updated_at: datetime | None
    started_at: datetime | None
    read_seq: int | None

    @classmethod
    def begin(
        cls,
        session: SyncSession,
        product: str,
        scope_id: uuid.UUID = WHOLE_ITEM,
        source_updated_at: datetime | None = None,
    ) -> Read:
        """A read that starts now, in this claim."""
        return cls(session, product, scope_id, source_updated_at, session.now, session.read_seq)

    @property
    def key(self) -> tuple[uuid.UUID, str, uuid.UUID]:
        """The step's key: item, product and scope."""
        return self.session.item_id, self.product, self.scope_id

    async def complete(
        self,
        conn: Connection | Pool,
        *,
        fingerprint: str | None = None,
        incomplete_reason: str | None = None,
        found: bool = False,
        fences: bool = False,
    ) -> None:
        """Mark the step complete, and clear its failures.

        incomplete_reason: why its list may have more rows than were read; it answers events, and
        proves no absence. found: it had rows. fences: it is the first statement of a page, or all
        of it, and checks and renews the lease itself; then it raises LeaseLost.
        """
        marked = await product_sync.mark_complete(
            conn,
            *self.key,
            complete_read_at=self.started_at,
            source_updated_at=self.source_updated_at,
            fingerprint=fingerprint,
            read_seq=self.read_seq or self.session.read_seq,
            incomplete_reason=incomplete_reason,
            has_rows=found and PRODUCTS[self.product].rechecks_first,
            token=self._token(fences=fences),
            lease_for=LEASE,
        )
        self.session.note_renewed(marked)

    async def complete_transactions(
        self,
        conn: Connection | Pool,
        *,
        pluggy_started_at: datetime | None,
        since: datetime | None,
        walked: bool = False,
        has_new_rows: bool = False,
        fences: bool = False,
    ) -> None:
        """Mark a delta or a walk complete: its watermark moves, and its overlap is noted.

        A list that is empty since its first read is read again. has_new_rows: deletions that lack
        a witness are asked for again. fences: as for complete.
        """
        item_id, _, account_id = self.key
        marked = await product_sync.complete_transactions(
            conn,
            item_id,
            account_id,
            complete_read_at=self.started_at,
            source_updated_at=self.source_updated_at,
            read_up_to=bounded(pluggy_started_at, self.started_at),
            read_since=since,
            read_seq=self.read_seq or self.session.read_seq,
            walked=walked,
            page_rows=ROWS_OF_A_PAGE,
            narrow_for=NARROW_TTL,
            overlap=OVERLAP,
            collected_as=PRODUCTS[self.product].collected_as,
            has_new_rows=has_new_rows,
            token=self._token(fences=fences),
            lease_for=LEASE,
        )
        self.session.note_renewed(marked)

    def _token(self, *, fences: bool) -> uuid.UUID | None:
        return self.session.lease.token if fences else None

    async def expect_first_rows(self, conn: Connection) -> None:
        """After an empty list: schedule another read if it has been so since its first read."""
        declared = PRODUCTS[self.product]
        if declared.rechecks_first:
            name = declared.collected_as
            await product_sync.expect_first_rows(conn, *self.key, found=False, collected_as=name)

    async def defer(
        self, conn: Connection, *, reason: str = EMPTY_ANSWER, pause: timedelta | None = None
    ) -> None:
        """Defer the step until after the pause: no watermark moves, no event is settled.

        Without a pause given, it doubles with the age of the deferral, from 30 s to an hour.
        """
        await product_sync.defer_step(conn, *self.key, reason=reason, pause=pause)
        self.session.deferred.add((self.product, self.scope_id))
