CREATE VIEW pluggy_ops.backlog AS
SELECT l.name AS lane, coalesce(s.items, 0) AS items, coalesce(s.due, 0) AS due,
       coalesce(k.running, 0) AS running, s.oldest_due_at,
       coalesce(extract(epoch FROM now() - s.oldest_due_at), 0)::numeric(12,3) AS oldest_due_age_s
FROM (VALUES (0, 'live'), (1, 'retry'), (2, 'backfill'), (3, 'audit')) AS l(lane, name)
LEFT JOIN (
    SELECT lane, count(*) AS items, count(*) FILTER (WHERE run_at <= now()) AS due,
           min(run_at) FILTER (WHERE run_at <= now()) AS oldest_due_at
    FROM pluggy_sync.item_sync WHERE run_at IS NOT NULL GROUP BY lane) AS s ON s.lane = l.lane
-- From the leases that are held, which are as few as the slots of all workers. BETWEEN: by their index, as
-- in items_not_fresh.
LEFT JOIN (
    SELECT w.lane, count(*) AS running
    FROM pluggy_sync.item_leases h
    JOIN pluggy_sync.item_sync w ON w.item_id = h.item_id
    WHERE h.token IS NOT NULL AND h.until > now() AND w.run_at IS NOT NULL
      AND h.item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'
    GROUP BY w.lane) AS k
    ON k.lane = l.lane
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
