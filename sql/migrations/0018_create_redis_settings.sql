-- The settings of the Redis server that decide whether an event in it survives, as a worker found them.
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
    'One row once a worker has asked Redis: whether its settings keep events; checked every minute';
COMMENT ON COLUMN pluggy_sync.redis_settings.append_only IS
    'Whether it has an append-only file; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.append_fsync IS
    'always, everysec or no; null: CONFIG is forbidden';
COMMENT ON COLUMN pluggy_sync.redis_settings.maxmemory_bytes IS '0: no bound; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.maxmemory_policy IS
    'noeviction is the safe one; null: it does not say';
COMMENT ON COLUMN pluggy_sync.redis_settings.unsafe IS
    'Empty: safe. append_only_off (an outage of Postgres is answered 503), append_fsync_not_always'
    ' (some answers are 503 then), may_evict (our keys may be evicted), unknown (CONFIG is forbidden, so'
    ' that append_fsync or the policy is not known)';
COMMENT ON COLUMN pluggy_sync.redis_settings.checked_at IS 'When a worker last asked';
