-- name: demo_progress
-- params: after_event
-- returns: one DemoProgress
-- nullable: lag_ms
-- What the demo shows while it waits. after_event: the last event before the update rounds; lag and
-- without_rows are of the events after it: from receipt to the commit of the last row that the event
-- changed, and the number of events that changed none.
SELECT
    (SELECT count(*) FROM pluggy_live.items) AS items,
    (SELECT count(*) FROM pluggy_live.accounts) AS accounts,
    (SELECT count(*) FROM pluggy_live.transactions) AS transactions,
    (SELECT count(*) FROM pluggy_sync.item_sync WHERE run_at <= now()) AS items_due,
    (SELECT count(*) FROM pluggy_sync.workers) AS workers,
    e.*,
    (SELECT percentile_cont(ARRAY[0.5, 0.99])
                WITHIN GROUP (
                    ORDER BY extract(epoch FROM visible_at - least(received_at, accepted_at)) * 1000)
     FROM pluggy_sync.webhook_events
     WHERE id > $1 AND state = 'applied' AND visible_at IS NOT NULL
       AND event NOT LIKE 'sync/%') AS lag_ms
FROM (
    SELECT
        count(*) AS accepted,
        count(*) FILTER (WHERE state = 'applied') AS applied,
        count(*) FILTER (WHERE state IN ('pending', 'walking')) AS open,
        count(*) FILTER (WHERE state = 'dead') AS dead,
        count(*) FILTER (WHERE state = 'applied' AND id > $1 AND visible_at IS NULL)
            AS without_rows,
        coalesce(max(id), 0) AS last_event
    FROM pluggy_sync.webhook_events
    WHERE event NOT LIKE 'sync/%'
) AS e;

-- name: demo_has_open_events
-- returns: value
-- Whether a webhook is still to be settled: asked more often than demo_progress, which counts all rows.
SELECT EXISTS (SELECT FROM pluggy_sync.webhook_events
               WHERE state IN ('pending', 'walking') AND event NOT LIKE 'sync/%') AS has_open;

-- name: spending_by_category
-- returns: many Spending
-- nullable: currency, category, spent
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
-- returns: value?
-- Loses one row. Returns it.
DELETE FROM pluggy.transactions
WHERE ctid = (SELECT ctid FROM pluggy.transactions WHERE deleted_at IS NULL
              ORDER BY item_id, id LIMIT 1)
RETURNING id;

-- name: sabotage_extra
-- params: row_id
-- returns: value?
-- Invents one row, as a copy of another. Returns it.
INSERT INTO pluggy.transactions
SELECT (jsonb_populate_record(t, jsonb_build_object('id', $1::uuid))).*
FROM pluggy.transactions t
WHERE t.deleted_at IS NULL
ORDER BY t.item_id, t.id LIMIT 1
RETURNING id;

-- name: sabotage_different
-- params: spared_id?
-- returns: value?
-- Changes one row by a cent, in its column alone. Returns it.
UPDATE pluggy.transactions SET amount = amount + 0.01
WHERE ctid = (SELECT ctid FROM pluggy.transactions WHERE deleted_at IS NULL AND id <> $1
              ORDER BY item_id, id LIMIT 1)
RETURNING id;
