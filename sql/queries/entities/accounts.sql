-- name: load_accounts_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       coalesce(deletion_flagged_at, deletion_refused_at) AS missing_since
FROM pluggy.accounts WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: count_balance_changes
-- params: item_id, rows
-- returns: value
-- rows: a JSON array, as for upsert_accounts. How many accounts differ from what is held in their
-- balance alone: GET /accounts/{id}/balance changes it at Pluggy, without any event.
SELECT count(*) AS explained
FROM jsonb_to_recordset($2::jsonb) AS r(id uuid, payload jsonb, row_hash bytea)
JOIN pluggy.accounts a ON a.item_id = $1 AND a.id = r.id AND a.deleted_at IS NULL
WHERE a.row_hash <> r.row_hash
  AND a.payload - '{balance,updatedAt}'::text[]
      #- '{bankData,closingBalance}' #- '{bankData,automaticallyInvestedBalance}'
    = r.payload - '{balance,updatedAt}'::text[]
      #- '{bankData,closingBalance}' #- '{bankData,automaticallyInvestedBalance}';

-- name: load_live_accounts
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id is not used: accounts are listed by item.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       coalesce(deletion_flagged_at, deletion_refused_at) AS missing_since
FROM pluggy.accounts
WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_accounts
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones and flags, and keeps the balance of the day: that of updatedAt,
-- at most a year ago. Returns which rows are new.
WITH written AS (
    INSERT INTO pluggy.accounts AS stored
        (item_id, id, type, subtype, number, name, marketing_name, owner, tax_number, currency_code,
         balance, bank_transfer_number, bank_closing_balance, credit_level, credit_brand, credit_limit,
         credit_available_limit, credit_minimum_payment, credit_balance_close_date,
         credit_balance_due_date, credit_status, source_created_at, source_updated_at, payload,
         row_hash, row_version, run_id, first_seen_at, changed_at)
    SELECT $2, r.id, r.type, r.subtype, r.number, r.name, r.marketing_name, r.owner, r.tax_number,
           r.currency_code, r.balance, r.bank_transfer_number, r.bank_closing_balance, r.credit_level,
           r.credit_brand, r.credit_limit, r.credit_available_limit, r.credit_minimum_payment,
           r.credit_balance_close_date, r.credit_balance_due_date, r.credit_status, r.source_created_at,
           r.source_updated_at, r.payload, r.row_hash, r.row_version, $3, $4::timestamptz, $4
    FROM jsonb_populate_recordset(NULL::pluggy.accounts, $1::jsonb) AS r
    ORDER BY r.id
    ON CONFLICT (item_id, id) DO UPDATE SET
        type = excluded.type, subtype = excluded.subtype, number = excluded.number,
        name = excluded.name, marketing_name = excluded.marketing_name, owner = excluded.owner,
        tax_number = excluded.tax_number, currency_code = excluded.currency_code,
        balance = excluded.balance, bank_transfer_number = excluded.bank_transfer_number,
        bank_closing_balance = excluded.bank_closing_balance, credit_level = excluded.credit_level,
        credit_brand = excluded.credit_brand, credit_limit = excluded.credit_limit,
        credit_available_limit = excluded.credit_available_limit,
        credit_minimum_payment = excluded.credit_minimum_payment,
        credit_balance_close_date = excluded.credit_balance_close_date,
        credit_balance_due_date = excluded.credit_balance_due_date,
        credit_status = excluded.credit_status, source_created_at = excluded.source_created_at,
        source_updated_at = excluded.source_updated_at, payload = excluded.payload,
        row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
        changed_at = excluded.changed_at, deleted_at = NULL, deletion_flagged_at = NULL,
        deletion_flag = NULL, deletion_refused_at = NULL
    RETURNING id, xmax = 0 AS is_new, currency_code, balance,
              greatest(least(coalesce(source_updated_at, $4), $4), $4 - interval '1 year') AS balance_at
), snapshots AS (
    INSERT INTO pluggy_sync.balance_snapshots AS stored (item_id, account_id, day, currency_code, balance)
    SELECT $2, w.id, (w.balance_at AT TIME ZONE z.posted_on_zone)::date, w.currency_code, w.balance
    FROM written w
    CROSS JOIN pluggy_sync.worker_settings z
    ON CONFLICT (item_id, account_id, day) DO UPDATE
    SET currency_code = excluded.currency_code, balance = excluded.balance
    WHERE (stored.currency_code, stored.balance) IS DISTINCT FROM (excluded.currency_code, excluded.balance)
)
SELECT id, is_new FROM written;

-- name: tombstone_accounts
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One account by its id, or all of the item.
UPDATE pluggy.accounts
SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3,
    deletion_flagged_at = NULL, deletion_flag = NULL
WHERE item_id = $1 AND $2::uuid IN (id, item_id) AND deleted_at IS NULL;
