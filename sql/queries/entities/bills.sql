-- name: load_bills_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.bills WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_bills
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id: the account.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.bills
WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_bills
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.bills AS stored
    (item_id, id, account_id, due_date, closing_date, total_amount, currency_code,
     minimum_payment_amount, allows_installments, source_created_at, source_updated_at, payload,
     row_hash, row_version, run_id, first_seen_at, changed_at)
SELECT $2, r.id, r.account_id, r.due_date, r.closing_date, r.total_amount, r.currency_code,
       r.minimum_payment_amount, r.allows_installments, r.source_created_at, r.source_updated_at,
       r.payload, r.row_hash, r.row_version, $3, $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.bills, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    account_id = excluded.account_id, due_date = excluded.due_date,
    closing_date = excluded.closing_date, total_amount = excluded.total_amount,
    currency_code = excluded.currency_code,
    minimum_payment_amount = excluded.minimum_payment_amount,
    allows_installments = excluded.allows_installments,
    source_created_at = excluded.source_created_at, source_updated_at = excluded.source_updated_at,
    payload = excluded.payload, row_hash = excluded.row_hash, row_version = excluded.row_version,
    run_id = excluded.run_id, changed_at = excluded.changed_at, deleted_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_bills
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One bill by its id, those of an account, or all of the item.
UPDATE pluggy.bills SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (id, account_id, item_id) AND deleted_at IS NULL;
