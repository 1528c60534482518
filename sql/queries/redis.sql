-- name: record_redis_settings
-- params: append_only?, append_fsync?, maxmemory_bytes?, maxmemory_policy?, unsafe
-- returns: none
INSERT INTO pluggy_sync.redis_settings AS stored
    (append_only, append_fsync, maxmemory_bytes, maxmemory_policy, unsafe)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (only_row) DO UPDATE
SET append_only = excluded.append_only, append_fsync = excluded.append_fsync,
    maxmemory_bytes = excluded.maxmemory_bytes, maxmemory_policy = excluded.maxmemory_policy,
    unsafe = excluded.unsafe, checked_at = clock_timestamp();
