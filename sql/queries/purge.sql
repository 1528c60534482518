-- name: claim_item_to_purge
-- params: retention, lease_for
-- returns: one? ItemToPurge
-- Leases a tombstoned item whose retention time is over, or whose erasure is ordered, and that has no
-- work left; never while it is halted or backed off. Ended items wait for an order, unless
-- KEEP_ENDED=0.
WITH deleted AS (
    SELECT id, deleted_at, ended_at FROM pluggy.items WHERE deleted_at IS NOT NULL
), due AS (
    SELECT i.id AS item_id, i.deleted_at, i.ended_at, p.attempts
    FROM deleted i
    JOIN pluggy_sync.item_sync s ON s.item_id = i.id
    JOIN pluggy_sync.item_leases l ON l.item_id = i.id
    LEFT JOIN pluggy_sync.purges p ON p.item_id = i.id
    LEFT JOIN pluggy_sync.erasures e ON e.item_id = i.id
    WHERE s.run_at IS NULL AND l.until <= now()
      AND (e.item_id IS NOT NULL
           OR (i.deleted_at <= now() - $1::interval
               AND (i.ended_at IS NULL OR NOT (SELECT keep_ended FROM pluggy_sync.worker_settings))))
      AND (p.next_try_at IS NULL OR p.next_try_at <= now())
      AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
    ORDER BY i.deleted_at
    LIMIT 1
    FOR UPDATE OF l SKIP LOCKED
), begun AS (
    INSERT INTO pluggy_sync.purges (item_id) SELECT item_id FROM due ON CONFLICT (item_id) DO NOTHING
)
UPDATE pluggy_sync.item_leases l
SET token = gen_random_uuid(), until = clock_timestamp() + $2::interval
FROM due
WHERE l.item_id = due.item_id
RETURNING l.item_id, l.token, coalesce(due.attempts, 0) AS attempts,
          due.ended_at IS NOT NULL AS is_ended, clock_timestamp() AS now;

-- name: fail_purge
-- params: item_id, attempts, code, error_id?, pause
-- returns: none
UPDATE pluggy_sync.purges
SET attempts = $2, failure_code = $3, error_id = $4, next_try_at = now() + $5::interval
WHERE item_id = $1;

-- name: begin_purge
-- params: item_id
-- returns: none
-- Pluggy has answered 404 once more.
UPDATE pluggy_sync.purges
SET attempts = 0, failure_code = NULL, error_id = NULL, next_try_at = NULL
WHERE item_id = $1;

-- name: delete_purge
-- params: item_id
-- returns: none
-- The item answers again.
DELETE FROM pluggy_sync.purges WHERE item_id = $1;

-- name: count_purged
-- params: item_id, table, rows
-- returns: none
UPDATE pluggy_sync.purges
SET deleted = deleted || jsonb_build_object($2::text, coalesce((deleted ->> $2)::bigint, 0) + $3::bigint)
WHERE item_id = $1;

-- name: purge_rows
-- params: table, item_id, limit
-- returns: value
-- Rows of a table that has the item in item_id. Returns how many were deleted.
SELECT pluggy_sync.delete_batch($1::text::regclass, 'item_id = $1', $2::uuid, $3::integer) AS rows;

-- name: purge_walk_pages
-- params: item_id, limit
-- returns: count
DELETE FROM pluggy_sync.walk_pages p
WHERE ctid IN (SELECT p.ctid FROM pluggy_sync.walk_pages p
               JOIN pluggy_sync.account_walks w USING (walk_id) WHERE w.item_id = $1 LIMIT $2);

-- name: purge_runs
-- params: item_id, limit
-- returns: count
-- Runs stay, the ids of accounts and investments in what they have done go.
UPDATE pluggy_sync.runs
SET plan = regexp_replace(plan::text, ' [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '', 'g')::jsonb
WHERE id IN (SELECT id FROM pluggy_sync.runs
             WHERE item_id = $1
               AND plan::text ~ ' [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
             LIMIT $2);

-- name: purge_id_progress
-- params: item_id, limit
-- returns: count
-- How far the lists of settled events were asked; an event may be settled without them.
DELETE FROM pluggy_sync.id_progress
WHERE event_row_id IN (SELECT p.event_row_id FROM pluggy_sync.id_progress p
                       JOIN pluggy_sync.webhook_events e ON e.id = p.event_row_id
                       WHERE e.item_id = $1 AND e.state IN ('applied', 'dead', 'ignored') LIMIT $2);

-- name: purge_webhook_events
-- params: item_id, limit
-- returns: count
-- The record that an event came, and what became of it, stays; what it said goes. The digest of its
-- body stays, so that a redelivery is still known for one. There is nothing left that a dead letter
-- could be sent back to.
UPDATE pluggy_sync.webhook_events
SET body = '', transaction_ids = NULL, account_id = NULL,
    reason = CASE WHEN state = 'dead' THEN 'item_purged' ELSE reason END,
    state = CASE WHEN state = 'dead' THEN 'ignored' ELSE state END
WHERE id IN (SELECT id FROM pluggy_sync.webhook_events
             WHERE item_id = $1 AND state IN ('applied', 'dead', 'ignored')
               AND (body <> '' OR transaction_ids IS NOT NULL OR account_id IS NOT NULL)
             LIMIT $2);

-- name: finish_purge
-- params: item_id, run_id, now
-- returns: value?
-- The item's own row goes last, for it is what a purge that was interrupted is found by. Returns
-- the receipt.
WITH item AS (
    DELETE FROM pluggy.items WHERE id = $1 RETURNING deleted_at
), purge AS (
    DELETE FROM pluggy_sync.purges WHERE item_id = $1 RETURNING begun_at, deleted
), erasure AS (
    DELETE FROM pluggy_sync.erasures WHERE item_id = $1 RETURNING ordered_at
)
INSERT INTO pluggy_sync.purge_receipts
    (item_id, item_deleted_at, erasure_ordered_at, purge_begun_at, deleted, run_id, last_event_id)
SELECT $1, item.deleted_at, (SELECT ordered_at FROM erasure), purge.begun_at,
       purge.deleted || '{"items": 1}', $2,
       -- Not those that are on their way: each is read again until it is settled.
       coalesce(least(
           (SELECT max(e.id) FROM pluggy_sync.webhook_events e
            WHERE e.item_id = $1 AND e.state IN ('applied', 'dead', 'ignored')
              AND e.accepted_at < $3::timestamptz - interval '1 hour'),
           (SELECT min(e.id) FROM pluggy_sync.webhook_events e
            WHERE e.item_id = $1 AND e.state IN ('pending', 'walking')) - 1), 0)
FROM item, purge
RETURNING id;

-- name: purge_late_events
-- params: limit
-- returns: count
-- Events of purged items that came after the purge: settled, their bodies name the person, too.
WITH receipts AS (
    SELECT item_id, last_event_id FROM pluggy_sync.purge_receipts
), purged AS (
    SELECT r.item_id, r.last_event_id FROM receipts r
    WHERE NOT EXISTS (SELECT FROM pluggy.items i WHERE i.id = r.item_id)
)
UPDATE pluggy_sync.webhook_events
SET body = '', transaction_ids = NULL, account_id = NULL
WHERE id IN (
    SELECT e.id FROM purged p
    JOIN pluggy_sync.webhook_events e ON e.item_id = p.item_id AND e.id > p.last_event_id
    WHERE e.state IN ('applied', 'dead', 'ignored')
      AND (e.body <> '' OR e.transaction_ids IS NOT NULL OR e.account_id IS NOT NULL)
    LIMIT $1);
