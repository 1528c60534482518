CREATE VIEW pluggy_ops.lag AS
SELECT event, count(*) AS events,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric(12,1) AS p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric(12,1) AS p99_ms,
       max(ms)::numeric(12,1) AS max_ms
FROM (
    SELECT event, extract(epoch FROM settled_at - received_at) * 1000 AS ms
    FROM pluggy_sync.webhook_events
    WHERE state = 'applied' AND accepted_at > now() - interval '1 hour'
) AS applied
GROUP BY event;

COMMENT ON VIEW pluggy_ops.lag IS
    'Time from receipt to settlement of the events that were applied within the last hour, one '
    'row per event name';
COMMENT ON COLUMN pluggy_ops.lag.event IS 'Name of the event';
COMMENT ON COLUMN pluggy_ops.lag.events IS 'Events applied of those accepted in the last hour';
COMMENT ON COLUMN pluggy_ops.lag.p50_ms IS 'Milliseconds from receipt to settlement, median';
COMMENT ON COLUMN pluggy_ops.lag.p99_ms IS
    'Milliseconds from receipt to settlement, 99th percentile';
COMMENT ON COLUMN pluggy_ops.lag.max_ms IS 'Milliseconds from receipt to settlement, longest';
