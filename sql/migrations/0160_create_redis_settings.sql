-- Redis as the workers find it: what pluggy-sync status and findings say of it.
-- One row: the settings of the server that decide whether an event in it survives.
CREATE TABLE pluggy_sync.redis_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    append_only boolean,
    append_fsync text,
    maxmemory_bytes bigint,
    maxmemory_policy text,
    unsafe text[] NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pluggy_sync.redis_settings IS
    'One row once a worker has asked Redis: the settings that decide whether it keeps events; checked every minute';
COMMENT ON COLUMN pluggy_sync.redis_settings.append_only IS
    'whether it has an append-only file; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.append_fsync IS
    'always, everysec or no; null: CONFIG is forbidden';
COMMENT ON COLUMN pluggy_sync.redis_settings.maxmemory_bytes IS '0: no bound; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.maxmemory_policy IS
    'noeviction is the safe one; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.unsafe IS
    'empty: safe. append_only_off (an outage of Postgres is answered 503), append_fsync_not_always'
    ' (some answers are 503 then), may_evict (keys of ours may be thrown away), unknown (CONFIG is'
    ' forbidden, so that append_fsync or the policy cannot be told)';
COMMENT ON COLUMN pluggy_sync.redis_settings.checked_at IS 'when a worker last asked';

ALTER TABLE pluggy_sync.workers
    ADD COLUMN redis_outage text,
    ADD COLUMN redis_outage_since timestamptz;
COMMENT ON COLUMN pluggy_sync.workers.redis_outage IS
    'null: Redis serves this worker; else the cause in one word: redis_away, redis_read_only,'
    ' redis_loading, redis_not_persisting, redis_full, redis_access_denied';
COMMENT ON COLUMN pluggy_sync.workers.redis_outage_since IS
    'since when there is an outage, whatever its word; null: none';
