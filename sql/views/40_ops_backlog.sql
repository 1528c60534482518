CREATE VIEW pluggy_ops.backlog AS
SELECT l.name AS lane, count(s.item_id) AS items,
       count(s.item_id) FILTER (WHERE s.run_at <= now()) AS due,
       count(s.item_id) FILTER (WHERE k.until > now()) AS running,
       min(s.run_at) FILTER (WHERE s.run_at <= now()) AS oldest_due_at,
       coalesce(extract(epoch FROM now() - min(s.run_at) FILTER (WHERE s.run_at <= now())), 0)::numeric(12,3)
           AS oldest_due_age_s
FROM (VALUES (0, 'live'), (1, 'retry'), (2, 'backfill'), (3, 'audit')) AS l(lane, name)
LEFT JOIN pluggy_sync.item_sync s ON s.lane = l.lane AND s.run_at IS NOT NULL
-- By its key: to read all leases takes longer than to look up those of the items that have work.
LEFT JOIN LATERAL (SELECT k.until FROM pluggy_sync.item_leases k WHERE k.item_id = s.item_id
                   LIMIT 1) AS k ON true
GROUP BY l.lane, l.name
ORDER BY l.lane;

COMMENT ON VIEW pluggy_ops.backlog IS 'Work that waits, one row per lane';
COMMENT ON COLUMN pluggy_ops.backlog.lane IS
    'live, retry, backfill or audit: the order in which work is taken';
COMMENT ON COLUMN pluggy_ops.backlog.items IS 'Items that have work in this lane, now or later';
COMMENT ON COLUMN pluggy_ops.backlog.due IS 'Items of these that are due';
COMMENT ON COLUMN pluggy_ops.backlog.running IS 'Items of these that a worker has leased';
COMMENT ON COLUMN pluggy_ops.backlog.oldest_due_at IS
    'Since when the oldest is due, UTC; null: none is';
COMMENT ON COLUMN pluggy_ops.backlog.oldest_due_age_s IS
    'Seconds that the oldest due item waits; 0: none is due';
