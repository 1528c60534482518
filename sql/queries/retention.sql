-- What is older than the retention time goes, a portion of rows at a time. Every condition stands in
-- the outer statement too: a row that was changed meanwhile is judged again.

-- name: delete_expired_webhook_events
-- params: retention, limit
-- returns: count
-- Settled events only: what is pending, walking or dead stays whatever its age. Pluggy repeats a
-- delivery for hours, so none comes that late for an event that is forgotten.
DELETE FROM pluggy_sync.webhook_events e
WHERE e.state IN ('applied', 'ignored') AND e.settled_at < now() - $1::interval
  AND e.id IN (SELECT id FROM pluggy_sync.webhook_events
               WHERE accepted_at < now() - $1::interval AND settled_at < now() - $1::interval
                 AND state IN ('applied', 'ignored')
               ORDER BY accepted_at LIMIT $2);

-- name: delete_expired_delivery_counts
-- params: retention, limit
-- returns: count
DELETE FROM pluggy_sync.delivery_counts d
WHERE (d.minute, d.event, d.answer) IN (
    SELECT minute, event, answer FROM pluggy_sync.delivery_counts
    WHERE minute < now() - $1::interval ORDER BY minute LIMIT $2);

-- name: delete_expired_rejected_rows
-- params: retention, limit
-- returns: count
-- A row that is still there is met, and dated, by the verify of each week.
DELETE FROM pluggy_sync.rejected_rows r
WHERE r.rejected_at < now() - $1::interval
  AND r.ctid IN (SELECT ctid FROM pluggy_sync.rejected_rows
                 WHERE rejected_at < now() - $1::interval LIMIT $2);

-- name: delete_expired_contract_drift
-- params: retention, limit
-- returns: count
DELETE FROM pluggy_sync.contract_drift d
WHERE d.last_seen_at < now() - $1::interval
  AND d.ctid IN (SELECT ctid FROM pluggy_sync.contract_drift
                 WHERE last_seen_at < now() - $1::interval LIMIT $2);

-- name: delete_expired_missed_webhooks
-- params: retention, limit
-- returns: count
-- Those that are judged.
DELETE FROM pluggy_sync.missed_webhooks m
WHERE m.judged_at < now() - $1::interval
  AND m.ctid IN (SELECT ctid FROM pluggy_sync.missed_webhooks
                 WHERE judged_at < now() - $1::interval LIMIT $2);

-- name: delete_expired_drift
-- params: retention, limit
-- returns: count
DELETE FROM pluggy_sync.drift d
WHERE d.found_at < now() - $1::interval
  AND d.ctid IN (SELECT ctid FROM pluggy_sync.drift WHERE found_at < now() - $1::interval LIMIT $2);

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
), unnamed AS (
    SELECT l.id FROM checked l
    WHERE NOT EXISTS (SELECT FROM pluggy.transactions x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.items x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.accounts x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.bills x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.investments x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.investment_transactions x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.loans x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.identities x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.consents x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.connectors x WHERE x.run_id = l.id)
      AND NOT EXISTS (SELECT FROM pluggy.categories x WHERE x.run_id = l.id)
), removed AS (
    DELETE FROM pluggy_sync.runs r USING unnamed u
    WHERE r.id = u.id AND r.finished_at < now() - $1::interval
      AND r.seq <= (SELECT c.seq FROM pluggy_sync.restatement_cursor c)
      AND NOT EXISTS (SELECT FROM pluggy_sync.restatements x WHERE x.run_id = r.id)
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
