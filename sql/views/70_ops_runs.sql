CREATE VIEW pluggy_ops.runs AS
SELECT r.id, r.seq, r.kind, r.item_id, i.connector_id, i.connector_name, e.events, r.outcome,
       r.started_at, r.finished_at,
       extract(epoch FROM r.finished_at - r.started_at)::numeric(12, 3) AS duration_s, r.plan,
       r.seen, r.inserted, r.changed, r.deleted, r.unchanged, r.older_skipped, r.rejected,
       r.api_requests, r.failure_code, r.error_id
FROM pluggy_sync.runs r
LEFT JOIN pluggy.items i ON i.id = r.item_id
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT w.event ORDER BY w.event) AS events
    FROM pluggy_sync.webhook_events w WHERE w.id = ANY (r.event_ids)
) AS e ON true;

COMMENT ON VIEW pluggy_ops.runs IS
    'Every run that wrote or tried to write mirrored rows; seq is the feed for your own code';
COMMENT ON COLUMN pluggy_ops.runs.id IS 'Order of start; run_id of the rows that it wrote';
COMMENT ON COLUMN pluggy_ops.runs.seq IS 'Order of commit: the feed; null: it has not ended';
COMMENT ON COLUMN pluggy_ops.runs.kind IS 'sync, walk, deletion_review, restatement, purge, ...';
COMMENT ON COLUMN pluggy_ops.runs.item_id IS 'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.runs.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.runs.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.runs.events IS 'Names of the events that it was for; null: none';
COMMENT ON COLUMN pluggy_ops.runs.outcome IS
    'done, partial, failed, released or lost; null: it runs';
COMMENT ON COLUMN pluggy_ops.runs.started_at IS 'When it started, UTC';
COMMENT ON COLUMN pluggy_ops.runs.finished_at IS 'When it ended, UTC; null: it runs';
COMMENT ON COLUMN pluggy_ops.runs.duration_s IS 'Seconds; null: it runs';
COMMENT ON COLUMN pluggy_ops.runs.plan IS 'Steps that it set out to do; null: none';
COMMENT ON COLUMN pluggy_ops.runs.seen IS 'Rows that Pluggy sent';
COMMENT ON COLUMN pluggy_ops.runs.inserted IS 'Rows that were new';
COMMENT ON COLUMN pluggy_ops.runs.changed IS 'Rows that had changed';
COMMENT ON COLUMN pluggy_ops.runs.deleted IS 'Rows that became tombstones';
COMMENT ON COLUMN pluggy_ops.runs.unchanged IS 'Rows that were the same';
COMMENT ON COLUMN pluggy_ops.runs.older_skipped IS 'Rows that were older than the stored ones';
COMMENT ON COLUMN pluggy_ops.runs.rejected IS 'Rows that could not be read and were set aside';
COMMENT ON COLUMN pluggy_ops.runs.api_requests IS 'Requests to Pluggy';
COMMENT ON COLUMN pluggy_ops.runs.failure_code IS 'Code of its last failure; null: none';
COMMENT ON COLUMN pluggy_ops.runs.error_id IS
    'errorId of Pluggy for the last failure, or the x-request-id of its answer where it gave none or '
    'where rows were rejected, unknown or unannounced; its support asks for it; null: nothing was odd';
