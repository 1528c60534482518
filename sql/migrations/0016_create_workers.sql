-- Worker processes that are alive, with their job slots: together they bound how many wakes the queue holds.
CREATE TABLE pluggy_sync.workers (
    worker_id text PRIMARY KEY,
    slots integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    redis_outage text,
    redis_outage_since timestamptz
);

COMMENT ON TABLE pluggy_sync.workers IS
    'Worker processes; a row is deleted a day after its last sign of life';
COMMENT ON COLUMN pluggy_sync.workers.slots IS 'How many items it syncs at once';
COMMENT ON COLUMN pluggy_sync.workers.seen_at IS 'Its last sign of life';
COMMENT ON COLUMN pluggy_sync.workers.redis_outage IS
    'Null: Redis serves this worker; else the cause in one word: redis_away, redis_read_only,'
    ' redis_loading, redis_not_persisting, redis_full, redis_access_denied';
COMMENT ON COLUMN pluggy_sync.workers.redis_outage_since IS
    'Since when the outage lasts, whatever its cause; null: none';
