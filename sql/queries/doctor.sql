-- name: postgres_facts
-- returns: one PostgresFacts
-- What doctor asks Postgres: version, role, rights, and the settings that durability hangs on.
SELECT current_setting('server_version_num')::integer AS version, current_user::text AS role,
       current_setting('is_superuser') = 'on' AS is_superuser, pg_is_in_recovery() AS is_standby,
       pg_backend_pid() AS backend_pid, clock_timestamp() AS now, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('max_connections')::integer AS max_connections,
       current_setting('default_transaction_isolation') AS isolation,
       has_column_privilege('pluggy_sync.webhook_events', 'event', 'INSERT') AS may_accept,
       has_table_privilege('pluggy.transactions', 'INSERT') AS may_write,
       has_table_privilege('pluggy_ops.overview', 'SELECT') AS may_read_ops;

-- name: refused_deliveries
-- returns: many RefusedDeliveries
-- By the answer, of the last hour.
SELECT answer, sum(deliveries)::bigint AS deliveries FROM pluggy_ops.deliveries
WHERE minute > now() - interval '1 hour' AND answer NOT IN ('accepted', 'duplicate', 'kept')
GROUP BY answer
ORDER BY deliveries DESC;
