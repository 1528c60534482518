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
-- Own transfers and payments of a card's bill move money, they do not spend it.
SELECT category, count(*) AS purchases, sum(-signed_amount) AS spent
FROM pluggy_live.transactions
WHERE signed_amount < 0 AND NOT is_future
  AND category_id NOT LIKE '04%'   -- transfers between accounts of the same person
  AND category_id <> '05100000'    -- payments of a credit card's bill
GROUP BY category
ORDER BY spent DESC
LIMIT 8;

-- name: sabotage_missing
-- Loses one row. Returns it.
DELETE FROM pluggy.transactions
WHERE ctid = (SELECT ctid FROM pluggy.transactions WHERE deleted_at IS NULL
              ORDER BY item_id, id LIMIT 1)
RETURNING id;

-- name: sabotage_extra
-- Invents one row, as a copy of another. Returns it.
INSERT INTO pluggy.transactions
SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid()))).*
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
