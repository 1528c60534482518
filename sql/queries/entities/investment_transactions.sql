-- name: load_investment_transactions_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, NULL::timestamptz AS source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.investment_transactions WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_investment_transactions
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id: the investment.
SELECT id, row_hash, row_version, NULL::timestamptz AS source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.investment_transactions
WHERE item_id = $1 AND investment_id = $2 AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_investment_transactions
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.investment_transactions AS stored
    (item_id, id, investment_id, type, movement_type, quantity, value, amount, net_amount, date,
     trade_date, description, brokerage_number, payload, row_hash, row_version, run_id,
     first_seen_at, changed_at)
SELECT $2, r.id, r.investment_id, r.type, r.movement_type, r.quantity, r.value, r.amount,
       r.net_amount, r.date, r.trade_date, r.description, r.brokerage_number, r.payload, r.row_hash,
       r.row_version, $3, $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.investment_transactions, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    investment_id = excluded.investment_id, type = excluded.type,
    movement_type = excluded.movement_type, quantity = excluded.quantity, value = excluded.value,
    amount = excluded.amount, net_amount = excluded.net_amount, date = excluded.date,
    trade_date = excluded.trade_date, description = excluded.description,
    brokerage_number = excluded.brokerage_number, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL, missing_since = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: doubt_investment_transactions
-- params: item_id, investment_id, ids, now
-- returns: values
-- Missing from a complete, non-empty list for the first time. Returns those that a list before had
-- missed too.
WITH missing AS (
    SELECT id, missing_since FROM pluggy.investment_transactions
    WHERE item_id = $1 AND investment_id = $2 AND id = ANY($3::uuid[]) AND deleted_at IS NULL
), newly_missing AS (
    UPDATE pluggy.investment_transactions SET missing_since = $4::timestamptz
    WHERE item_id = $1 AND investment_id = $2 AND id = ANY($3::uuid[]) AND deleted_at IS NULL
      AND missing_since IS NULL
)
SELECT id FROM missing WHERE missing_since IS NOT NULL;

-- name: tombstone_investment_transactions
-- params: item_id, ids, run_id, now
-- returns: values
UPDATE pluggy.investment_transactions
SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3, missing_since = NULL
WHERE item_id = $1 AND id = ANY($2::uuid[]) AND deleted_at IS NULL
RETURNING id;

-- name: tombstone_owned_investment_transactions
-- params: item_id, owner_id, run_id, now
-- returns: count
-- Those of an investment, or all of the item.
UPDATE pluggy.investment_transactions
SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (investment_id, item_id) AND deleted_at IS NULL;
