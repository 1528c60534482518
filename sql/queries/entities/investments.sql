-- name: load_investments_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.investments WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_investments
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id is not used: investments are listed by item.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       missing_since
FROM pluggy.investments
WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_investments
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.investments AS stored
    (item_id, id, type, subtype, name, number, code, isin, status, currency_code, balance, amount,
     amount_original, amount_profit, amount_withdrawal, quantity, value, taxes, taxes2, rate,
     rate_type, fixed_annual_rate, last_month_rate, annual_rate, last_twelve_months_rate, issuer,
     issuer_cnpj, owner, institution_name, date, due_date, issue_date, purchase_date,
     source_created_at, source_updated_at, payload, row_hash, row_version, run_id, first_seen_at,
     changed_at)
SELECT $2, r.id, r.type, r.subtype, r.name, r.number, r.code, r.isin, r.status, r.currency_code,
       r.balance, r.amount, r.amount_original, r.amount_profit, r.amount_withdrawal, r.quantity,
       r.value, r.taxes, r.taxes2, r.rate, r.rate_type, r.fixed_annual_rate, r.last_month_rate,
       r.annual_rate, r.last_twelve_months_rate, r.issuer, r.issuer_cnpj, r.owner,
       r.institution_name, r.date, r.due_date, r.issue_date, r.purchase_date, r.source_created_at,
       r.source_updated_at, r.payload, r.row_hash, r.row_version, $3, $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.investments, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    type = excluded.type, subtype = excluded.subtype, name = excluded.name,
    number = excluded.number, code = excluded.code, isin = excluded.isin, status = excluded.status,
    currency_code = excluded.currency_code, balance = excluded.balance, amount = excluded.amount,
    amount_original = excluded.amount_original, amount_profit = excluded.amount_profit,
    amount_withdrawal = excluded.amount_withdrawal, quantity = excluded.quantity,
    value = excluded.value, taxes = excluded.taxes, taxes2 = excluded.taxes2, rate = excluded.rate,
    rate_type = excluded.rate_type, fixed_annual_rate = excluded.fixed_annual_rate,
    last_month_rate = excluded.last_month_rate, annual_rate = excluded.annual_rate,
    last_twelve_months_rate = excluded.last_twelve_months_rate, issuer = excluded.issuer,
    issuer_cnpj = excluded.issuer_cnpj, owner = excluded.owner,
    institution_name = excluded.institution_name, date = excluded.date,
    due_date = excluded.due_date, issue_date = excluded.issue_date,
    purchase_date = excluded.purchase_date, source_created_at = excluded.source_created_at,
    source_updated_at = excluded.source_updated_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL, missing_since = NULL,
    missing_collected_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_investments
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One investment by its id, or all of the item.
UPDATE pluggy.investments SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (id, item_id) AND deleted_at IS NULL;
