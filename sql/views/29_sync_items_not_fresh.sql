-- The items of which something may be wrong: in a large database they are few. Its first two parts name the
-- conditions of partial indexes word by word. BETWEEN, which is always so: without statistics, as after
-- an upgrade of Postgres, IS NOT NULL is expected of every row, and a range of few.
CREATE VIEW pluggy_sync.items_not_fresh AS
SELECT item_id FROM pluggy_sync.product_sync
WHERE (dead_at IS NOT NULL OR parked_at IS NOT NULL OR stale_reason IS NOT NULL
       OR incomplete_reason IS NOT NULL)
  AND item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'
UNION
SELECT id FROM pluggy.items
WHERE deleted_at IS NULL
  AND (status IS DISTINCT FROM 'UPDATED' OR execution_status = 'USER_AUTHORIZATION_REVOKED'
       OR next_auto_sync_at IS NULL OR has_resources_pending_authorization
       OR payload -> 'statusDetail' <> 'null')
UNION
SELECT id FROM pluggy.items WHERE next_auto_sync_at < now() - interval '1 day'
UNION
SELECT id FROM pluggy.items WHERE consent_expires_at <= now()
UNION
SELECT item_id FROM pluggy_sync.rejected_rows;

COMMENT ON VIEW pluggy_sync.items_not_fresh IS
    'Every item of which pluggy_ops.freshness calls a product stale or incomplete, and some others';
COMMENT ON COLUMN pluggy_sync.items_not_fresh.item_id IS
    'The item; all its products are judged by pluggy_ops.freshness';
