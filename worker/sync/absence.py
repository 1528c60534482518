"""Ask before you bury: absence only nominates; a row is buried after it was asked for by id in a
question that carried witnesses, of which at least one came back, and never too many at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.claim import Claim
from worker.database import Connection
from worker.queries import QUERIES

QUESTION_SIZE: Final = 200
"""Ids a request: 500 are allowed, but longer URLs fail in proxies."""
WITNESSES: Final = 3
AT_ONCE_ROWS: Final = 20
AT_ONCE_SHARE: Final = 0.2

NO_WITNESS: Final = "no_witness"
TOO_MANY: Final = "too_many_at_once"


@dataclass(frozen=True, slots=True)
class Question:
    """Ids to ask for together: suspects, and rows that we hold live and that nothing suspects."""

    suspects: frozenset[uuid.UUID]
    witnesses: tuple[uuid.UUID, ...]

    @property
    def ids(self) -> list[uuid.UUID]:
        """All ids of the request."""
        return [*sorted(self.suspects), *self.witnesses]

    def unanswered(self, listed: set[uuid.UUID]) -> bool:
        """Witnesses were asked for and none came back: nothing is proven, in either direction."""
        return bool(self.witnesses) and not listed.intersection(self.witnesses)

    @classmethod
    async def about(
        cls,
        claim: Claim,
        account_id: uuid.UUID,
        suspects: Sequence[uuid.UUID],
        all_suspects: Sequence[uuid.UUID] = (),
        *,
        events: Sequence[int] = (),
    ) -> Question:
        """A question about suspects; witnesses are none of all suspects nor named by the events."""
        records = await claim.db.fetch(
            QUERIES["load_witnesses"],
            claim.item_id,
            account_id,
            list(all_suspects or suspects),
            list(events),
        )
        return cls(frozenset(suspects), tuple(record["id"] for record in records))


async def bury_or_flag(
    conn: Connection,
    claim: Claim,
    account_id: uuid.UUID,
    absent: Sequence[uuid.UUID],
    *,
    suspects: Sequence[uuid.UUID],
    events: Sequence[int] = (),
) -> None:
    """Tombstone rows that were asked for and did not come back, or flag them for a person.

    Flagged if the account has no row that could have been a witness, or if they are more than the
    larger of 20 rows and 20 % of the account's live rows.
    """
    records = await conn.fetch(QUERIES["load_held_ids"], claim.item_id, account_id, list(absent))
    held = [record["id"] for record in records]
    if not held:
        return
    reason = await _reason_to_flag(conn, claim, account_id, held, suspects, events)
    if reason is None:
        buried = await conn.fetch(
            QUERIES["tombstone_transactions"], claim.item_id, account_id, held, claim.run
        )
        claim.counts.deleted += len(buried)
    else:
        await conn.execute(
            QUERIES["flag_transactions"], claim.item_id, account_id, held, claim.run, reason
        )


async def _reason_to_flag(
    conn: Connection,
    claim: Claim,
    account_id: uuid.UUID,
    absent: Sequence[uuid.UUID],
    suspects: Sequence[uuid.UUID],
    events: Sequence[int],
) -> str | None:
    witnesses = await conn.fetch(
        QUERIES["load_witnesses"], claim.item_id, account_id, list(suspects), list(events)
    )
    if not witnesses:
        return NO_WITNESS
    live = await conn.fetchval(QUERIES["count_live_transactions"], claim.item_id, account_id)
    return TOO_MANY if len(absent) > max(AT_ONCE_ROWS, AT_ONCE_SHARE * live) else None
