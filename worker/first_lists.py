"""Lists that are empty at their first read are read again soon: a look is an event of our own."""

from __future__ import annotations

from typing import Final

from worker.database import Pool
from worker.events import Lane
from worker.nets import Net, order_net

CONFIRMATIONS: Final = Net(
    "sync/confirm", Lane.RETRY, "load_due_confirmations", "end_confirmations"
)


async def order_confirmations(db: Pool) -> bool:
    """Order the looks that are due; returns whether there may be more."""
    return await order_net(db, CONFIRMATIONS) > 0
