-- name: load_loans_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.loans WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_loans
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id is not used: loans are listed by item.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.loans
WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_loans
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.loans AS stored
    (item_id, id, contract_number, ipoc_code, product_name, type, kind, currency_code,
     contract_amount, outstanding_balance, cet, date, contract_date, settlement_date, due_date,
     first_installment_due_date, total_installments, paid_installments, source_created_at,
     source_updated_at, payload, row_hash, row_version, run_id, first_seen_at, changed_at)
SELECT $2, r.id, r.contract_number, r.ipoc_code, r.product_name, r.type, r.kind, r.currency_code,
       r.contract_amount, r.outstanding_balance, r.cet, r.date, r.contract_date, r.settlement_date,
       r.due_date, r.first_installment_due_date, r.total_installments, r.paid_installments,
       r.source_created_at, r.source_updated_at, r.payload, r.row_hash, r.row_version, $3,
       $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.loans, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    contract_number = excluded.contract_number, ipoc_code = excluded.ipoc_code,
    product_name = excluded.product_name, type = excluded.type, kind = excluded.kind,
    currency_code = excluded.currency_code, contract_amount = excluded.contract_amount,
    outstanding_balance = excluded.outstanding_balance, cet = excluded.cet, date = excluded.date,
    contract_date = excluded.contract_date, settlement_date = excluded.settlement_date,
    due_date = excluded.due_date, first_installment_due_date = excluded.first_installment_due_date,
    total_installments = excluded.total_installments,
    paid_installments = excluded.paid_installments, source_created_at = excluded.source_created_at,
    source_updated_at = excluded.source_updated_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL, missing_since = NULL,
    missing_collected_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_loans
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One loan by its id, or all of the item.
UPDATE pluggy.loans SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (id, item_id) AND deleted_at IS NULL;
