-- name: sweep_due_items
-- params: lock, limit, lowest_lane
-- returns: values
-- Due items that nobody works on, best lane first; empty while another sweep holds the lock or
-- everything is halted.
SELECT s.item_id
FROM pluggy_sync.item_sync s
JOIN pluggy_sync.item_leases l USING (item_id)
WHERE (SELECT pg_try_advisory_xact_lock($1))
  AND s.run_at <= now() AND l.until <= now() AND s.lane <= $3::smallint
  AND NOT EXISTS (SELECT FROM pluggy_sync.halts
                  WHERE halted_at IS NOT NULL
                    AND (probe_at > now() OR failure_code <> 'pluggy_down'))
ORDER BY s.lane, s.run_at
LIMIT $2;

-- name: ignore_events_without_item
-- returns: many IgnoredEvents
-- Settles pending events that name neither an item nor a connector. Returns how many there were, by
-- name.
WITH ignored AS (
    UPDATE pluggy_sync.webhook_events
    SET state = 'ignored', reason = 'not_mirrored', settled_at = clock_timestamp()
    WHERE item_id IS NULL AND connector_id IS NULL AND state = 'pending'
    RETURNING event
)
SELECT event, count(*) AS events FROM ignored GROUP BY event;

-- name: beat_worker
-- params: worker_id, slots, redis_outage?
-- returns: value
-- A worker is alive. redis_outage: the word for its outage of Redis. Returns the slots of all live
-- workers.
WITH beat AS (
    INSERT INTO pluggy_sync.workers AS stored (worker_id, slots, redis_outage, redis_outage_since)
    VALUES ($1, $2, $3, CASE WHEN $3::text IS NOT NULL THEN clock_timestamp() END)
    ON CONFLICT (worker_id) DO UPDATE
    SET slots = excluded.slots, seen_at = clock_timestamp(), redis_outage = excluded.redis_outage,
        redis_outage_since = CASE WHEN $3::text IS NOT NULL
                                  THEN coalesce(stored.redis_outage_since, clock_timestamp()) END
    RETURNING worker_id, slots
), gone AS (
    DELETE FROM pluggy_sync.workers WHERE seen_at < now() - interval '1 day'
)
SELECT (SELECT slots FROM beat) + coalesce(sum(w.slots), 0)::integer AS slots
FROM pluggy_sync.workers w
WHERE w.seen_at > now() - interval '30 seconds' AND w.worker_id <> $1;

-- name: probe_worker
-- params: worker_id
-- returns: none
-- What a worker needs of Postgres is a write.
UPDATE pluggy_sync.workers SET seen_at = clock_timestamp() WHERE worker_id = $1;

-- name: remove_worker
-- params: worker_id
-- returns: none
-- A worker has stopped.
DELETE FROM pluggy_sync.workers WHERE worker_id = $1;

-- name: end_stalled_copies
-- params: stalled_for
-- returns: value
-- Ends sessions of ours that began a COPY so long ago and wait for their worker; returns how many. No
-- time-out of Postgres ends them, because a cancel is not looked at while rows are waited for; their
-- pages hold the locks that the next claims of their items need.
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS ended
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND query LIKE 'COPY "pluggy".%'
  AND state = 'active' AND wait_event = 'ClientRead'
  AND query_start < clock_timestamp() - $1::interval;
