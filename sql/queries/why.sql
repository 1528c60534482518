-- name: why_rows
-- params: transaction_id
-- returns: many WhyRow
-- nullable: deleted_at, deletion_cause, deletion_flagged_at, deletion_flag, superseded_by, supersedes,
--   link_reason
-- The stored rows of a transaction, tombstones too: one for each item that shows it. superseded_by is
-- the row that counts instead.
WITH restated AS (
    SELECT item_id, id, superseded_by, reason FROM pluggy_sync.restatements
    WHERE id = $1 OR superseded_by = $1
), reconnected AS (
    SELECT item_id, id, superseded_by_item_id, superseded_by, reason FROM pluggy_sync.row_links
    WHERE product = 'transactions' AND (id = $1 OR superseded_by = $1)
), links AS (
    SELECT item_id, id, item_id AS newer_item_id, superseded_by, reason FROM restated
    UNION ALL
    SELECT item_id, id, superseded_by_item_id, superseded_by, reason FROM reconnected
)
SELECT t.item_id, t.account_id, t.id,
       CASE WHEN t.deleted_at IS NOT NULL THEN 'deleted' WHEN newer.id IS NOT NULL THEN 'superseded'
            WHEN t.deletion_flagged_at IS NOT NULL THEN 'deletion_pending' ELSE 'live' END AS state,
       t.first_seen_at, t.changed_at, t.deleted_at, t.deletion_cause, t.deletion_flagged_at,
       t.deletion_flag, newer.superseded_by, older.id AS supersedes,
       coalesce(newer.reason, older.reason) AS link_reason, t.run_id
FROM pluggy.transactions t
LEFT JOIN links newer ON newer.item_id = t.item_id AND newer.id = t.id
LEFT JOIN links older ON older.newer_item_id = t.item_id AND older.superseded_by = t.id
WHERE t.id = $1
ORDER BY t.first_seen_at, t.item_id;

-- name: why_runs
-- params: run_ids
-- returns: many WhyRun
-- nullable: item_id, plan, finished_at, outcome, failure_code, error_id
SELECT id, item_id, kind, event_ids, plan, started_at, finished_at, outcome, api_requests, failure_code,
       error_id
FROM pluggy_sync.runs WHERE id = ANY ($1::bigint[])
ORDER BY id;

-- name: why_events
-- params: event_ids, transaction_id, item_ids?, limit
-- returns: many WhyEvent
-- nullable: item_id, account_id, reason, error_id, settled_at, run_id
-- The events of runs, and those of some items (null: of any, which reads them all) that name the
-- transaction.
SELECT id, event, event_id, item_id, account_id, state, reason, error_id, received_at, accepted_at,
       settled_at, run_id
FROM pluggy_sync.webhook_events
WHERE id = ANY ($1::bigint[])
   OR ($2 = ANY (transaction_ids)
       AND ($3::uuid[] IS NULL
            OR (item_id = ANY ($3)
                AND (state IN ('pending', 'walking') OR state IN ('applied', 'dead', 'ignored')))))
ORDER BY id DESC LIMIT $4;

-- name: why_rejected
-- params: row_id
-- returns: many WhyRejected
-- The same row where it could not be read, and so was not stored.
SELECT item_id, product, reason, rejected_at, run_id FROM pluggy_sync.rejected_rows
WHERE row_id = $1 ORDER BY rejected_at;
