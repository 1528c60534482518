"""Work that nothing would take up: what no item of a database at rest may have."""

from __future__ import annotations

import uuid
from typing import Any, Final, Protocol

LEFT: Final = """
WITH items AS (
    SELECT s.item_id, s.run_at, s.generation, s.done_generation, i.status,
           i.id IS NOT NULL AND i.deleted_at IS NULL AS is_stored,
           i.next_auto_sync_at, i.payload ->> 'autoSyncDisabledAt' AS disabled_at,
           EXISTS (SELECT FROM pluggy_sync.webhook_events e
                   WHERE e.item_id = s.item_id AND e.state IN ('pending', 'walking')) AS is_open,
           -- Our own event may be among them: what it ordered is over until it is requeued.
           EXISTS (SELECT FROM pluggy_sync.webhook_events e
                   WHERE e.item_id = s.item_id AND e.state = 'dead') AS has_dead
    FROM pluggy_sync.item_sync s
    LEFT JOIN pluggy_sync.item_leases l USING (item_id)
    LEFT JOIN pluggy.items i ON i.id = s.item_id
    WHERE ($1::uuid IS NULL OR s.item_id = $1) AND coalesce(l.until <= now(), true)
), live_walks AS (
    SELECT w.item_id, w.account_id, p.parked_at
    FROM pluggy_sync.account_walks w
    LEFT JOIN pluggy_sync.product_sync p
        ON p.item_id = w.item_id AND p.product = 'transactions' AND p.scope_id = w.account_id
    WHERE p.dead_at IS NULL
), found AS (
    SELECT i.item_id, 'never leased: it has no lease' AS what, '' AS which
    FROM items i
    WHERE NOT EXISTS (SELECT FROM pluggy_sync.item_leases l WHERE l.item_id = i.item_id)
    UNION ALL
    SELECT i.item_id, 'never due: events that no settlement has read', i.generation::text
    FROM items i WHERE i.run_at IS NULL AND i.generation > i.done_generation
    UNION ALL
    SELECT i.item_id, 'never due: a pending event', e.event
    FROM items i JOIN pluggy_sync.webhook_events e USING (item_id)
    WHERE i.run_at IS NULL AND e.state = 'pending'
    UNION ALL
    SELECT i.item_id, 'never due: an event without its walk', e.event
    FROM items i JOIN pluggy_sync.webhook_events e USING (item_id)
    WHERE i.run_at IS NULL AND e.state = 'walking'
      AND NOT EXISTS (SELECT FROM live_walks w WHERE w.item_id = e.item_id
                      AND (e.account_id IS NULL OR e.account_id = w.account_id))
    UNION ALL
    SELECT i.item_id, 'never due: a walk', w.account_id::text
    FROM items i JOIN live_walks w USING (item_id)
    WHERE i.run_at IS NULL AND w.parked_at IS NULL
    UNION ALL
    SELECT i.item_id, 'never closed: a run', r.kind
    FROM items i JOIN pluggy_sync.runs r USING (item_id)
    WHERE i.run_at IS NULL AND r.finished_at IS NULL
      AND NOT EXISTS (SELECT FROM pluggy_sync.purges p WHERE p.item_id = i.item_id)
    UNION ALL
    SELECT i.item_id, 'never revived: an event of a product that is not parked', e.event
    FROM items i JOIN pluggy_sync.webhook_events e USING (item_id)
    WHERE e.state = 'ignored' AND e.reason = 'product_parked'
      AND NOT EXISTS (SELECT FROM pluggy_sync.parked_products WHERE product = 'transactions')
      AND NOT EXISTS (SELECT FROM pluggy_sync.product_sync p
                      WHERE p.item_id = i.item_id AND p.parked_at IS NOT NULL)
    UNION ALL
    SELECT i.item_id, 'never read again: an empty first list', p.product || ' ' || p.scope_id
    FROM items i JOIN pluggy_sync.product_sync p USING (item_id)
    WHERE p.awaits_rows AND p.confirm_at IS NULL AND p.dead_at IS NULL AND p.parked_at IS NULL
      AND i.is_stored AND NOT i.is_open AND NOT i.has_dead
      AND i.status NOT IN ('UPDATING', 'WAITING_USER_INPUT', 'WAITING_USER_ACTION')
    UNION ALL
    SELECT i.item_id, 'never reconciled: it has no schedule', ''
    FROM items i
    WHERE i.is_stored AND NOT i.is_open
      AND NOT EXISTS (SELECT FROM pluggy_sync.item_reconciliations n WHERE n.item_id = i.item_id)
    UNION ALL
    SELECT i.item_id, 'never checked for a missed webhook', ''
    FROM items i JOIN pluggy_sync.item_reconciliations n USING (item_id)
    WHERE i.is_stored AND NOT i.is_open AND n.webhook_check_at IS NULL
      AND i.next_auto_sync_at IS NOT NULL AND i.disabled_at IS NULL AND NOT i.has_dead
    UNION ALL
    SELECT i.item_id, 'never read again: the recent days', p.scope_id::text
    FROM items i
    JOIN pluggy_sync.item_reconciliations n USING (item_id)
    JOIN pluggy.accounts a ON a.item_id = i.item_id AND a.deleted_at IS NULL
    JOIN pluggy_sync.product_sync p
        ON p.item_id = i.item_id AND p.product = 'transactions' AND p.scope_id = a.id
    WHERE i.is_stored AND NOT i.is_open AND NOT i.has_dead AND n.recent_read_at IS NULL
      AND p.read_seq > coalesce(p.recent_seq, 0)
    UNION ALL
    SELECT i.item_id, 'never asked again: a row without a witness', t.id::text
    FROM items i
    JOIN pluggy_sync.item_reconciliations n USING (item_id)
    JOIN pluggy.transactions t USING (item_id)
    WHERE i.is_stored AND n.deletions_at IS NULL AND t.deletion_flagged_at IS NOT NULL
      AND t.deletion_flag = 'no_witness' AND t.deleted_at IS NULL
    UNION ALL
    SELECT i.item_id, 'left behind: the step of a tombstone', p.product
    FROM items i
    JOIN pluggy.accounts a ON a.item_id = i.item_id AND a.deleted_at IS NOT NULL
    JOIN pluggy_sync.product_sync p ON p.item_id = a.item_id AND p.scope_id = a.id
    WHERE i.is_stored
    UNION ALL
    SELECT w.item_id, 'left behind: the walk of a tombstone', w.account_id::text
    FROM items i
    JOIN pluggy_sync.account_walks w USING (item_id)
    JOIN pluggy.accounts a ON a.item_id = w.item_id AND a.id = w.account_id
    WHERE a.deleted_at IS NOT NULL
    UNION ALL
    SELECT i.item_id, 'left behind: progress of a settled event', e.event
    FROM items i
    JOIN pluggy_sync.webhook_events e USING (item_id)
    JOIN pluggy_sync.id_progress d ON d.event_row_id = e.id
    WHERE e.state NOT IN ('pending', 'walking')
    UNION ALL
    SELECT NULL, 'left behind: pages of a walk that has ended', p.walk_id::text
    FROM pluggy_sync.walk_pages p
    WHERE $1 IS NULL
      AND NOT EXISTS (SELECT FROM pluggy_sync.account_walks w WHERE w.walk_id = p.walk_id)
)
SELECT what, which FROM found ORDER BY what, which LIMIT 20
"""
"""$1: an item, or null for all. Leased items are left out: a claim takes up what it leaves."""


class Connection(Protocol):
    """A pool or a connection of asyncpg."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...


async def left_work(db: Connection, item_id: uuid.UUID | str | None = None) -> list[str]:
    """What nothing would take up, or only what happens by chance; a line for each."""
    return [f"{row['what']} {row['which']}".strip() for row in await db.fetch(LEFT, item_id)]
