"""Confirmations: reads a list again soon after its first read, because rows may show up late.

Two kinds: lists that were empty, and the hour before a walk or a long delta.
"""

from __future__ import annotations

from typing import Final

from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.maintenance.reconciliation import Reconciliation, order_reconciliation
from worker.store import product_sync

CONFIRMATIONS: Final = (
    Reconciliation(
        "sync/confirm",
        Lane.RETRY,
        product_sync.load_due_confirmations,
        product_sync.end_confirmations,
    ),
    Reconciliation(
        "sync/confirm", Lane.RETRY, product_sync.load_due_overlaps, product_sync.end_overlaps
    ),
)


async def order_confirmations(db: Pool) -> bool:
    """Store events for the confirmations that are due; returns whether there may be more."""
    return (
        sum([await order_reconciliation(db, reconciliation) for reconciliation in CONFIRMATIONS])
        > 0
    )
