-- name: load_transactions_versions
-- $1 item, $2 ids. doubted_at: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       coalesce(deletion_flagged_at, deletion_refused_at) AS doubted_at
FROM pluggy.transactions WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: upsert_transactions
-- $1 rows as JSON, $2 item, $3 run. Clears tombstones and flags. Returns which rows are new.
INSERT INTO pluggy.transactions AS held
    (item_id, id, account_id, description, description_raw, currency_code, amount,
     amount_in_account_currency, date, posted_on, type, status, balance, category, category_id,
     provider_code, provider_id, operation_type, payment_method, merchant_name,
     installment_number, total_installments, bill_id, order_in_day, source_created_at,
     source_updated_at, payload, row_hash, row_version, run_id)
SELECT $2, r.id, r.account_id, r.description, r.description_raw, r.currency_code, r.amount,
       r.amount_in_account_currency, r.date, r.posted_on, r.type, r.status, r.balance, r.category,
       r.category_id, r.provider_code, r.provider_id, r.operation_type, r.payment_method,
       r.merchant_name, r.installment_number, r.total_installments, r.bill_id, r.order_in_day,
       r.source_created_at, r.source_updated_at, r.payload, decode(r.row_hash, 'hex'),
       r.row_version, $3
FROM jsonb_to_recordset($1::jsonb) AS r(
    id uuid, account_id uuid, description text, description_raw text, currency_code text,
    amount numeric, amount_in_account_currency numeric, date timestamptz, posted_on date,
    type text, status text, balance numeric, category text, category_id text, provider_code text,
    provider_id text, operation_type text, payment_method text, merchant_name text,
    installment_number integer, total_installments integer, bill_id uuid, order_in_day integer,
    source_created_at timestamptz, source_updated_at timestamptz, payload jsonb, row_hash text,
    row_version smallint)
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    account_id = excluded.account_id, description = excluded.description,
    description_raw = excluded.description_raw, currency_code = excluded.currency_code,
    amount = excluded.amount, amount_in_account_currency = excluded.amount_in_account_currency,
    date = excluded.date, posted_on = excluded.posted_on, type = excluded.type,
    status = excluded.status, balance = excluded.balance, category = excluded.category,
    category_id = excluded.category_id, provider_code = excluded.provider_code,
    provider_id = excluded.provider_id, operation_type = excluded.operation_type,
    payment_method = excluded.payment_method, merchant_name = excluded.merchant_name,
    installment_number = excluded.installment_number,
    total_installments = excluded.total_installments, bill_id = excluded.bill_id,
    order_in_day = excluded.order_in_day, source_created_at = excluded.source_created_at,
    source_updated_at = excluded.source_updated_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = clock_timestamp(), deleted_at = NULL, deletion_flagged_at = NULL,
    deletion_flag = NULL, deletion_refused_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: load_witnesses
-- Up to three rows of an account that are held live and that nothing suspects; at random among the
-- newest, so that a witness that vanished unnoticed does not block for ever.
-- $1 item, $2 account, $3 suspected ids, $4 events whose ids are suspected too. NOT IN, because that is
-- one look into a hash table a row, whatever number of ids the planner expects.
SELECT id FROM (
    SELECT id FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND deletion_refused_at IS NULL AND id NOT IN (
          SELECT unnest($3::uuid[])
          UNION ALL
          SELECT unnest(e.transaction_ids) FROM pluggy_sync.webhook_events e
          WHERE e.id = ANY ($4::bigint[]))
    ORDER BY date DESC, id
    LIMIT 50
) AS newest
ORDER BY random() LIMIT 3;

-- name: holds_rows_created_since
-- Whether we hold live rows that a delta must list; not those that are flagged as absent.
-- $1 item, $2 account, $3 created at or after.
SELECT EXISTS (
    SELECT FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND source_created_at >= $3
) AS holds;

-- name: holds_rows_seen_before
-- Whether an account has live rows first seen before a time, those aside that are flagged as absent.
-- $1 item, $2 account, $3 time.
SELECT EXISTS (
    SELECT FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND first_seen_at < $3
) AS holds;

-- name: load_walked_up_to
-- Newest createdAt that a walk has listed. $1 item, $2 account, $3 Pluggy's clock at its start (which
-- is cut to the second, so rows of that second were there).
SELECT max(source_created_at) FROM pluggy.transactions
WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND source_created_at < $3::timestamptz + interval '1 second';

-- name: count_live_transactions
-- $1 item, $2 account.
SELECT count(*) AS live FROM pluggy.transactions
WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL;

-- name: load_held_ids
-- Which of these ids we hold live and no person has said to keep. $1 item, $2 account, $3 ids.
SELECT id FROM pluggy.transactions
WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_refused_at IS NULL
  AND id = ANY($3::uuid[]);

-- name: tombstone_transactions
-- $1 item, $2 account, $3 ids, $4 run.
UPDATE pluggy.transactions
SET deleted_at = now(), changed_at = clock_timestamp(), run_id = $4,
    deletion_flagged_at = NULL, deletion_flag = NULL
WHERE item_id = $1 AND account_id = $2 AND id = ANY($3::uuid[]) AND deleted_at IS NULL
RETURNING id;

-- name: flag_transactions
-- Absent rows that only a person may bury. $1 item, $2 account, $3 ids, $4 run, $5 reason.
UPDATE pluggy.transactions
SET deletion_flagged_at = now(), deletion_flag = $5, changed_at = clock_timestamp(), run_id = $4
WHERE item_id = $1 AND account_id = $2 AND id = ANY($3::uuid[]) AND deleted_at IS NULL
  AND deletion_flag IS DISTINCT FROM $5
RETURNING id;
