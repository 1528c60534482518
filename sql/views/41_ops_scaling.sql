-- A slot that works asks Pluggy as often as the last runs did; the rate limit divided by that is how many
-- slots can work at the same time.
CREATE VIEW pluggy_ops.scaling AS
SELECT b.due AS items_due, b.oldest_due_age_s, w.replicas, w.slots, h.halted_at IS NOT NULL AS halted,
       CASE WHEN r.requests > 0 AND w.slots > 0 THEN
           greatest(1, floor(c.requests_per_minute / 60.0 * r.busy_s / r.requests
                             / (w.slots::numeric / w.replicas)))::integer END AS max_replicas
FROM pluggy_sync.worker_settings c
CROSS JOIN pluggy_sync.halts h
CROSS JOIN (SELECT count(*) AS due,
                   round(coalesce(extract(epoch FROM now() - min(run_at)), 0), 3) AS oldest_due_age_s
            FROM pluggy_sync.item_sync WHERE run_at <= now()) AS b
CROSS JOIN (SELECT count(*) AS replicas, coalesce(sum(slots), 0) AS slots FROM pluggy_sync.workers
            WHERE seen_at > now() - interval '30 seconds') AS w
CROSS JOIN (SELECT sum(api_requests) AS requests,
                   sum(extract(epoch FROM finished_at - started_at)) AS busy_s
            FROM (SELECT api_requests, started_at, finished_at FROM pluggy_sync.runs
                  ORDER BY id DESC LIMIT 2000) AS newest
            WHERE finished_at > now() - interval '10 minutes') AS r;

COMMENT ON VIEW pluggy_ops.scaling IS
    'One row for an autoscaler: due work, and how many workers Pluggy''s rate limit can keep busy';
COMMENT ON COLUMN pluggy_ops.scaling.items_due IS 'Items that have work now and that no worker has leased';
COMMENT ON COLUMN pluggy_ops.scaling.oldest_due_age_s IS
    'Seconds that the oldest due item waits; 0: none is due';
COMMENT ON COLUMN pluggy_ops.scaling.replicas IS 'Workers that reported within the last 30 seconds';
COMMENT ON COLUMN pluggy_ops.scaling.slots IS 'Job slots of these workers together';
COMMENT ON COLUMN pluggy_ops.scaling.halted IS
    'Whether everything is parked: more workers would do nothing';
COMMENT ON COLUMN pluggy_ops.scaling.max_replicas IS
    'Workers that Pluggy''s rate limit can keep busy, by the runs of the last ten minutes; null: '
    'none ended, or no worker is alive';
