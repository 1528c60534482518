-- What each run was for, what it has done, and what went wrong; newest first by id.
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
