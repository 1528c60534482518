-- name: demo_progress
-- What the demo shows while it waits. $1 the last event before the update rounds: the lag is told of
-- those after it.
SELECT
    (SELECT count(*) FROM pluggy_live.items) AS items,
    (SELECT count(*) FROM pluggy_live.accounts) AS accounts,
    (SELECT count(*) FROM pluggy_live.transactions) AS transactions,
    (SELECT count(*) FROM pluggy_sync.item_sync WHERE run_at <= now()) AS items_due,
    (SELECT count(*) FROM pluggy_sync.workers) AS workers,
    e.*
FROM (
    SELECT
        count(*) AS accepted,
        count(*) FILTER (WHERE state = 'applied') AS applied,
        count(*) FILTER (WHERE state IN ('pending', 'walking')) AS open,
        count(*) FILTER (WHERE state = 'dead') AS dead,
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
            ORDER BY extract(epoch FROM settled_at - received_at) * 1000
        ) FILTER (WHERE state = 'applied' AND id > $1) AS lag_ms,
        coalesce(max(id), 0) AS last_event
    FROM pluggy_sync.webhook_events
    WHERE event NOT LIKE 'sync/%'
) AS e;

-- name: spending_by_category
-- Own transfers and card bills move money, they do not spend it; rows without a category count.
SELECT signed_currency_code AS currency, category, count(*) AS purchases, sum(-signed_amount) AS spent
FROM pluggy_live.transactions
WHERE signed_amount < 0 AND NOT is_future AND deletion_flagged_at IS NULL
  AND coalesce(category_id, '') NOT LIKE '04%'   -- own transfers
  AND coalesce(category_id, '') <> '05100000'    -- card bill payments
GROUP BY 1, 2
ORDER BY 1, spent DESC
LIMIT 8;

-- name: sabotage_missing
-- Loses one row. Returns it.
DELETE FROM pluggy.transactions
WHERE ctid = (SELECT ctid FROM pluggy.transactions WHERE deleted_at IS NULL
              ORDER BY item_id, id LIMIT 1)
RETURNING id;

-- name: sabotage_extra
-- Invents one row, as a copy of another. $1 its id. Returns it.
INSERT INTO pluggy.transactions
SELECT (jsonb_populate_record(t, jsonb_build_object('id', $1::uuid))).*
FROM pluggy.transactions t
WHERE t.deleted_at IS NULL
ORDER BY t.item_id, t.id LIMIT 1
RETURNING id;

-- name: sabotage_different
-- Changes one row by a cent, in its column alone. $1 a row to leave alone. Returns it.
UPDATE pluggy.transactions SET amount = amount + 0.01
WHERE ctid = (SELECT ctid FROM pluggy.transactions WHERE deleted_at IS NULL AND id <> $1
              ORDER BY item_id, id LIMIT 1)
RETURNING id;

-- name: overview
SELECT * FROM pluggy_ops.overview;

-- name: findings
SELECT * FROM pluggy_ops.findings ORDER BY weight DESC;

-- name: list_worklist
-- The findings thing by thing. $1 kind, $2 item (null: any), $3 limit.
SELECT * FROM pluggy_ops.worklist
WHERE ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR item_id = $2)
ORDER BY weight DESC, since LIMIT $3;

-- name: backlog
SELECT * FROM pluggy_ops.backlog;

-- name: lag
SELECT * FROM pluggy_ops.lag ORDER BY event;

-- name: show_item
-- An item as operators may see it, and whether it has work. No row if nothing is known of it.
-- $1 item.
SELECT $1::uuid AS item_id, i.connector_id, i.connector_name, i.status, i.execution_status,
       i.error_code, i.products, i.last_updated_at, i.next_auto_sync_at, i.consent_expires_at,
       i.first_seen_at, i.changed_at, i.deleted_at, s.generation, s.done_generation, s.run_at,
       (ARRAY['live', 'retry', 'backfill', 'audit'])[s.lane + 1] AS lane,
       coalesce(l.until > now(), false) AS is_running
FROM (SELECT) AS one
LEFT JOIN pluggy.items i ON i.id = $1
LEFT JOIN pluggy_sync.item_sync s ON s.item_id = $1
LEFT JOIN pluggy_sync.item_leases l ON l.item_id = $1
WHERE i.id IS NOT NULL OR s.item_id IS NOT NULL
   OR EXISTS (SELECT FROM pluggy_sync.webhook_events e WHERE e.item_id = $1);

-- name: count_item_rows
-- What is held of an item, products without a row left out. $1 item.
SELECT entity, count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(deleted_at) AS deleted,
       max(changed_at) AS changed_at
FROM (
    SELECT 'accounts' AS entity, deleted_at, changed_at FROM pluggy.accounts WHERE item_id = $1
    UNION ALL SELECT 'transactions', deleted_at, changed_at FROM pluggy.transactions WHERE item_id = $1
    UNION ALL SELECT 'investments', deleted_at, changed_at FROM pluggy.investments WHERE item_id = $1
    UNION ALL SELECT 'investment_transactions', deleted_at, changed_at FROM pluggy.investment_transactions WHERE item_id = $1
    UNION ALL SELECT 'loans', deleted_at, changed_at FROM pluggy.loans WHERE item_id = $1
    UNION ALL SELECT 'identities', deleted_at, changed_at FROM pluggy.identities WHERE item_id = $1
    UNION ALL SELECT 'bills', deleted_at, changed_at FROM pluggy.bills WHERE item_id = $1
    UNION ALL SELECT 'consents', deleted_at, changed_at FROM pluggy.consents WHERE item_id = $1
) AS held
GROUP BY entity
ORDER BY entity;

-- name: item_freshness
-- $1 item.
SELECT product, account_id, state, reason, blocked_on, stale_since, read_at, collected_at, watermark,
       attempts, next_try_at, error_id
FROM pluggy_ops.freshness WHERE item_id = $1
ORDER BY product, account_id NULLS FIRST;

-- name: item_walks
-- $1 item.
SELECT account_id, kind, (ARRAY['live', 'retry', 'backfill', 'audit'])[lane + 1] AS lane, asked_at,
       started_at, pages, rows_seen
FROM pluggy_sync.account_walks WHERE item_id = $1
ORDER BY asked_at;

-- name: item_open_events
-- Events of an item that are not applied yet. $1 item, $2 limit.
SELECT id, event, event_id, account_id, state, accepted_at, pending_since, ask_again_at
FROM pluggy_sync.webhook_events
WHERE item_id = $1 AND state IN ('pending', 'walking')
ORDER BY id LIMIT $2;

-- name: list_dead_letters
-- Oldest death first. $1 ids, $2 reason, $3 item, $4 connector (null: any), $5 limit (null: all).
SELECT id, event, item_id, account_id, connector_name, reason, text, error_id, failure_class, attempts,
       first_failed_at, last_failed_at, accepted_at, died_at
FROM pluggy_ops.dead_letters
WHERE ($1::bigint[] IS NULL OR id = ANY ($1)) AND ($2::text IS NULL OR reason = $2)
  AND ($3::uuid IS NULL OR item_id = $3) AND ($4::integer IS NULL OR connector_id = $4)
ORDER BY died_at, id LIMIT $5;

-- name: requeue_dead_letters
-- Dead events become pending again and their items due, in one statement, with locks in the order of
-- accept_events. $1 ids, $2 reason, $3 item, $4 connector (null: any). Returns them, and whether the
-- bump made their item due.
WITH chosen AS (
    SELECT id FROM pluggy_sync.webhook_events
    WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY ($1))
      AND ($2::text IS NULL OR reason = $2) AND ($3::uuid IS NULL OR item_id = $3)
      AND ($4::integer IS NULL
           OR item_id IN (SELECT i.id FROM pluggy.items i WHERE i.connector_id = $4))
    ORDER BY id
    FOR UPDATE
), requeued AS (
    UPDATE pluggy_sync.webhook_events e
    SET state = 'pending', reason = NULL, error_id = NULL, settled_at = NULL, ask_again_at = NULL,
        pending_since = clock_timestamp()
    FROM chosen c
    WHERE e.id = c.id AND e.state = 'dead'
    RETURNING e.id, e.event, e.item_id, e.account_id, e.lane
), told AS (
    SELECT item_id, count(*) AS events, min(lane) AS lane
    FROM requeued WHERE item_id IS NOT NULL
    GROUP BY item_id
), bumped AS (
    INSERT INTO pluggy_sync.item_sync AS s (item_id, generation, lane, run_at)
    SELECT item_id, events, lane, now() FROM told ORDER BY item_id
    ON CONFLICT (item_id) DO UPDATE
        SET generation = s.generation + excluded.generation,
            lane = least(s.lane, excluded.lane),
            run_at = least(s.run_at, excluded.run_at)
    RETURNING s.item_id, s.run_at = now() AS made_due
), leasable AS (
    INSERT INTO pluggy_sync.item_leases (item_id)
    SELECT item_id FROM bumped b
    WHERE NOT EXISTS (SELECT FROM pluggy_sync.item_leases l WHERE l.item_id = b.item_id)
    ORDER BY item_id
    ON CONFLICT (item_id) DO NOTHING
)
SELECT r.id, r.event, r.item_id, r.account_id, coalesce(b.made_due, false) AS made_due
FROM requeued r
LEFT JOIN bumped b USING (item_id)
ORDER BY r.id;
