"""Halt and resume: a failure about us, not about an item, parks everything behind a probe."""

from __future__ import annotations

from typing import Final

import structlog

from worker.claim import Claim
from worker.database import Pool
from worker.failures import Failure, PluggyDown, PluggyHalt
from worker.queries import QUERIES

log = structlog.get_logger()

ITEMS_ALIKE: Final = 5
HALTING_STATUS: Final = ("400:", "403:", "404:")
ALIKE: Final = (
    "Several items fail alike: check that PLUGGY_CLIENT_ID belongs to the application that owns"
    " these items, and that this release knows Pluggy's current API."
)


async def halt(db: Pool, error: PluggyHalt) -> None:
    """Park everything; what died of the same in the last five minutes is made due again."""
    await db.execute(QUERIES["halt"], error.code, error.advice, error.probe_every)
    log.error("halted", code=error.code, error_id=error.error_id, advice=error.advice)


async def raise_if_alike(claim: Claim, product: str, failure: Failure) -> None:
    """Raise PluggyHalt if items fail alike, unexpectedly, and no item succeeds at the same."""
    if not failure.code.startswith(HALTING_STATUS):
        return
    found = await claim.db.fetchrow(QUERIES["count_items_failing_alike"], product, failure.code)
    if found is not None and found["items"] >= ITEMS_ALIKE and not found["others_succeed"]:
        raise PluggyHalt(failure.code, advice=ALIKE, error_id=failure.error_id)


async def raise_if_down(claim: Claim) -> None:
    """Raise PluggyDown if most calls of all workers fail."""
    ledger = claim.pluggy.ledger
    if ledger is not None and await ledger.is_down():
        raise PluggyDown


async def raise_if_still_halted(claim: Claim, failure: Failure) -> None:
    """Raise PluggyHalt if a probe fails of what halted everything: it costs its item nothing."""
    halted_by = await claim.db.fetchval(QUERIES["load_halt_code"])
    if halted_by == PluggyDown().code and failure.failure_class == "retry":
        raise PluggyDown
    if failure.code == halted_by:
        raise PluggyHalt(failure.code, advice=ALIKE, error_id=failure.error_id)


async def resume(db: Pool) -> bool:
    """A probe has answered: everything goes on. False if nothing was halted."""
    resumed_at = await db.fetchval(QUERIES["resume"])
    if resumed_at is not None:
        log.info("resumed")
    return resumed_at is not None
