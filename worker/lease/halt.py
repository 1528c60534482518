"""Halt and resume of all syncs: a circuit breaker for failures that no single item causes.

A halt needs a second witness: every key is refused, an endpoint that every sync needs is retired,
or several other items answer with the same refusal. A probe once a minute ends it.
"""

from __future__ import annotations

import uuid
from typing import Final

import structlog

from worker.infra.postgres import Pool
from worker.lease.lease import SyncSession
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.errors import HTTP_GONE, Failure, PluggyDown, PluggyError, PluggyHalt
from worker.store import halts

log = structlog.get_logger()

ITEMS_ALIKE: Final = 5
NO_ITEM: Final = uuid.UUID("00000000-0000-4000-8000-000000000000")
ALIKE: Final = (
    "Pluggy answers {code} to {endpoint} for all items: check that PLUGGY_CLIENT_ID belongs to the"
    " application that owns these items, and that this release knows Pluggy's current API."
)
GONE: Final = (
    "Pluggy has retired {endpoint} ({code}), which everything needs: install a newer release."
)


async def halt(db: Pool, error: PluggyHalt) -> None:
    """Halt all work, and make due again what failed with the same code in the last five minutes."""
    await halts.halt(
        db, failure_code=error.code, advice=error.advice, probe_every=error.probe_every
    )
    log.error("halted", code=error.code, error_id=error.error_id, advice=error.advice)


async def raise_if_unable(session: SyncSession, failure: Failure) -> None:
    """Raise PluggyHalt if Pluggy refuses all items alike, so that the refusal is no single item's.

    A few other items are asked for as second witnesses.
    """
    if failure.status == HTTP_GONE and await _refuses(session, NO_ITEM, failure):
        raise _halted(failure, GONE)
    judged = await halts.judge_items_failing_alike(
        session.db, session.item_id, failure_code=failure.code, items=ITEMS_ALIKE
    )
    if judged is None or not judged.are_alike:
        return
    for item_id in judged.others or ():
        if not await _refuses(session, item_id, failure):
            return
    raise _halted(failure, ALIKE)


async def _refuses(session: SyncSession, item_id: uuid.UUID, failure: Failure) -> bool:
    """Whether Pluggy refuses another item in the same way: the second witness."""
    try:
        await session.pluggy.item(item_id)
    except PluggyHalt:
        raise
    except PluggyError as error:
        return error.code == failure.code
    return False


def _halted(failure: Failure, advice: str) -> PluggyHalt:
    text = advice.format(code=failure.code, endpoint=failure.endpoint)
    return PluggyHalt(failure.code, advice=text, status=failure.status, error_id=failure.error_id)


async def raise_if_down(session: SyncSession) -> None:
    """Raise PluggyDown if most calls of all workers fail."""
    ledger = session.pluggy.ledger
    if ledger is not None and await ledger.is_down():
        raise PluggyDown


async def probe_halt(db: Pool, client: PluggyClient, ledger: CallLedger) -> bool:
    """Probe if a probe is due: a new key and a request for a connector, never what was refused.

    Returns whether work is resumed. Errors: those of a Postgres that is away.
    """
    code = await halts.claim_halt_probe(db)
    if code is None:
        return False
    try:
        await client.probe(new_key=code != PluggyDown().code, count=lambda: None)
    except PluggyHalt as error:
        await halt(db, error)
    except PluggyError as error:
        log.info("probe_failed", code=error.code, error_id=error.error_id)
    else:
        await ledger.reset()
        return await resume(db)
    return False


async def resume(db: Pool) -> bool:
    """Resume all work after an answered probe. False if nothing was halted."""
    resumed_at = await halts.resume(db)
    if resumed_at is not None:
        log.info("resumed")
    return resumed_at is not None
