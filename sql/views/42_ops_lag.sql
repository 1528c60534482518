CREATE VIEW pluggy_ops.lag AS
SELECT event, count(*) AS events, count(row_ms) AS with_rows,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY row_ms)::numeric(12,1) AS p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY row_ms)::numeric(12,1) AS p99_ms,
       max(row_ms)::numeric(12,1) AS max_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY settled_ms)::numeric(12,1) AS settled_p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY settled_ms)::numeric(12,1) AS settled_p99_ms
FROM (
    -- received_at is the receiver's clock: ahead of Postgres's, it would make negative times.
    SELECT event, extract(epoch FROM visible_at - least(received_at, accepted_at)) * 1000 AS row_ms,
           extract(epoch FROM settled_at - least(received_at, accepted_at)) * 1000 AS settled_ms
    FROM pluggy_sync.webhook_events
    WHERE state = 'applied' AND accepted_at > now() - interval '1 hour'
) AS applied
GROUP BY event;

COMMENT ON VIEW pluggy_ops.lag IS
    'Time from receipt to visible rows and to settlement of the events that were applied within the '
    'last hour, one row per event name. Of an event about transactions the rows of its account count, '
    'of all others every row of the item that the same sync changed';
COMMENT ON COLUMN pluggy_ops.lag.event IS 'Name of the event';
COMMENT ON COLUMN pluggy_ops.lag.events IS 'Events applied of those accepted in the last hour';
COMMENT ON COLUMN pluggy_ops.lag.with_rows IS
    'Of these, the events that changed a row; the others have no time to a row';
COMMENT ON COLUMN pluggy_ops.lag.p50_ms IS
    'Milliseconds from receipt to the commit that made the last changed row visible, median; null: no '
    'row changed';
COMMENT ON COLUMN pluggy_ops.lag.p99_ms IS
    'Milliseconds from receipt to the commit that made the last changed row visible, 99th percentile; '
    'null: no row changed';
COMMENT ON COLUMN pluggy_ops.lag.max_ms IS
    'Milliseconds from receipt to the commit that made the last changed row visible, longest; null: no '
    'row changed';
COMMENT ON COLUMN pluggy_ops.lag.settled_p50_ms IS 'Milliseconds from receipt to settlement, median';
COMMENT ON COLUMN pluggy_ops.lag.settled_p99_ms IS
    'Milliseconds from receipt to settlement, 99th percentile';
