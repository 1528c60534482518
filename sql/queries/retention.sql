-- What is older than the retention time goes, a portion of rows at a time. Every condition stands in
-- the outer statement too: a row that was changed meanwhile is judged again.

-- name: delete_expired_webhook_events
-- params: retention, limit
-- returns: count
-- Settled events only: what is pending, walking or dead stays whatever its age. Pluggy repeats a
-- delivery for hours, so none comes that late for an event that is forgotten.
DELETE FROM pluggy_sync.webhook_events e
WHERE e.state IN ('applied', 'ignored') AND e.settled_at < now() - $1::interval
  -- ARRAY: by the ids, however many rows Postgres expects.
  AND e.id = ANY (ARRAY(SELECT id FROM pluggy_sync.webhook_events
                        WHERE accepted_at < now() - $1::interval AND settled_at < now() - $1::interval
                          AND state IN ('applied', 'ignored')
                        ORDER BY accepted_at LIMIT $2));

-- name: delete_expired_rows
-- params: table, time_column, retention, limit
-- returns: value
-- Rows of a table whose time is too long ago; none where it is null. Returns how many were deleted.
SELECT pluggy_sync.delete_batch(
    $1::text::regclass, format('%I < $1', $2::text), now() - $3::interval, $4::integer) AS rows;

-- name: delete_expired_walk_pages
-- params: retention, limit
-- returns: count
-- What a walk that is no more has left, if anything.
DELETE FROM pluggy_sync.walk_pages p
WHERE $1::interval IS NOT NULL
  AND p.ctid IN (SELECT w.ctid FROM pluggy_sync.walk_pages w
                 WHERE NOT EXISTS (SELECT FROM pluggy_sync.account_walks a
                                   WHERE a.walk_id = w.walk_id)
                 LIMIT $2);

-- name: delete_expired_runs
-- params: retention, limit
-- returns: value?
-- The next portion of closed runs, in the order of their ids: those stay that a row names, for a
-- row has to tell why it is as it is, and those that have yet to be looked at for restatements. No
-- row: the walk rests, or another worker is at it. Returns whether there is more.
WITH walk AS (
    SELECT run_id FROM pluggy_sync.retention_cursor WHERE rests_until <= now()
    FOR UPDATE SKIP LOCKED
), checked AS (
    SELECT r.id, r.started_at
    FROM walk CROSS JOIN LATERAL (
        SELECT id, started_at FROM pluggy_sync.runs WHERE id > walk.run_id ORDER BY id LIMIT $2
    ) AS r
), named AS (
    SELECT pluggy_sync.runs_of_rows(ARRAY(SELECT id FROM checked)) AS id
), removed AS (
    DELETE FROM pluggy_sync.runs r USING checked l
    WHERE r.id = l.id AND r.id NOT IN (SELECT n.id FROM named n) AND r.finished_at < now() - $1::interval
      AND r.seq <= (SELECT c.seq FROM pluggy_sync.restatement_cursor c)
      AND NOT EXISTS (SELECT FROM pluggy_sync.restatements x WHERE x.run_id = r.id)
      AND NOT EXISTS (SELECT FROM pluggy_sync.row_links x WHERE x.run_id = r.id)
      AND NOT EXISTS (SELECT FROM pluggy_sync.purge_receipts x WHERE x.run_id = r.id)
      AND NOT EXISTS (SELECT FROM pluggy_sync.rejected_rows x WHERE x.run_id = r.id)
      AND NOT EXISTS (SELECT FROM pluggy_sync.contract_drift x WHERE x.run_id = r.id)
      AND NOT EXISTS (SELECT FROM pluggy_sync.drift x WHERE x.run_id = r.id)
    RETURNING r.id
), portion AS (
    SELECT max(id) AS last, count(*) = $2 AND max(started_at) < now() - $1::interval AS more
    FROM checked
)
UPDATE pluggy_sync.retention_cursor c
SET run_id = CASE WHEN p.more THEN p.last ELSE 0 END,
    rests_until = CASE WHEN p.more THEN c.rests_until ELSE now() + interval '1 day' END
FROM portion p, walk
WHERE (SELECT count(*) FROM removed) >= 0
RETURNING p.more;
