-- name: load_transactions_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
-- Looked up one by one: a plan that a connection keeps from an empty table would read all of an item's rows
-- in another index that ends with the id.
SELECT t.id, t.row_hash, t.row_version, t.source_updated_at, t.changed_at, t.deleted_at,
       coalesce(t.deletion_flagged_at, t.deletion_refused_at) AS missing_since
FROM unnest($2::uuid[]) AS listed(id)
CROSS JOIN LATERAL (
    SELECT * FROM pluggy.transactions WHERE item_id = $1 AND id = listed.id LIMIT 1) AS t;

-- name: load_transactions_hashes
-- params: item_id, ids, version
-- returns: many StoredHash
-- nullable: row_hash
-- Of the ids that are stored their places, from 0, and hashes: null of a row that is to be written although
-- Pluggy's row is the same, because it is a tombstone, marked, or of an older version than this. Without the
-- times of load_transactions_versions, which take asyncpg longer than all else. Looked up as there.
SELECT (listed.place - 1)::integer AS place,
       CASE WHEN t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL
                 AND t.deletion_refused_at IS NULL AND t.row_version >= $3 THEN t.row_hash
       END AS row_hash
FROM unnest($2::uuid[]) WITH ORDINALITY AS listed(id, place)
CROSS JOIN LATERAL (
    SELECT * FROM pluggy.transactions WHERE item_id = $1 AND id = listed.id LIMIT 1) AS t;

-- name: upsert_transactions
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones and pending deletions. Returns which rows are new.
INSERT INTO pluggy.transactions AS stored
    (item_id, id, account_id, description, description_raw, currency_code, amount,
     amount_in_account_currency, date, posted_on, type, status, balance, category, category_id,
     provider_code, provider_id, operation_type, payment_method, merchant_name, installment_number,
     total_installments, bill_id, order_in_day, source_created_at, source_updated_at, payload,
     row_hash, row_version, run_id, first_seen_at, changed_at)
SELECT $2, r.id, r.account_id, r.description, r.description_raw, r.currency_code, r.amount,
       r.amount_in_account_currency, r.date, r.posted_on, r.type, r.status, r.balance, r.category,
       r.category_id, r.provider_code, r.provider_id, r.operation_type, r.payment_method,
       r.merchant_name, r.installment_number, r.total_installments, r.bill_id, r.order_in_day,
       r.source_created_at, r.source_updated_at, r.payload, r.row_hash, r.row_version, $3,
       $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.transactions, $1::jsonb) AS r
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
    changed_at = excluded.changed_at, deleted_at = NULL, deletion_flagged_at = NULL,
    deletion_flag = NULL, deletion_refused_at = NULL, missing_since = NULL, deletion_cause = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: load_witnesses
-- params: item_id, account_id, suspected, asked, event_ids
-- returns: one Witnesses
-- Up to three rows of an account that are stored live and that nothing suspects, to be asked for
-- beside suspects: one that is older than the oldest suspect that has an older row, the others
-- newer than the oldest suspect or beside it. At random among the nearest or newest 50, so that a
-- witness that vanished unnoticed does not block for ever. bracketed: the suspects to which the
-- older witness is older. asked: the ids of the question; event_ids: events whose ids are suspected
-- too. NOT IN, because that is one look into a hash table a row, whatever number of ids the planner
-- expects.
WITH suspected AS MATERIALIZED (
    SELECT unnest($3::uuid[]) AS id
    UNION ALL
    SELECT unnest(e.transaction_ids) FROM unnest($5::bigint[]) AS naming(id)
    CROSS JOIN LATERAL (
        SELECT transaction_ids FROM pluggy_sync.webhook_events WHERE id = naming.id LIMIT 1) AS e
), asked AS MATERIALIZED (
    -- Looked up one by one: Postgres expects one row of an item's account, and would read all of them.
    SELECT t.id, t.date FROM unnest($4::uuid[]) AS one(id)
    CROSS JOIN LATERAL (
        SELECT * FROM pluggy.transactions WHERE item_id = $1 AND id = one.id LIMIT 1) AS t
    WHERE t.account_id = $2 AND t.deleted_at IS NULL
), oldest AS (
    SELECT date FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND deletion_refused_at IS NULL AND id NOT IN (SELECT id FROM suspected)
    ORDER BY date, id DESC LIMIT 1
), span AS MATERIALIZED (
    SELECT min(a.date) AS oldest,
           min(a.date) FILTER (WHERE a.date > (SELECT date FROM oldest)) AS with_older
    FROM asked a
), older AS MATERIALIZED (
    SELECT near.id FROM (
        SELECT id FROM pluggy.transactions
        WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
          AND deletion_flagged_at IS NULL AND deletion_refused_at IS NULL
          AND date < (SELECT with_older FROM span) AND id NOT IN (SELECT id FROM suspected)
        ORDER BY date DESC, id LIMIT 50
    ) AS near
    ORDER BY random() LIMIT 1
), others AS (
    SELECT newest.id FROM (
        SELECT id FROM pluggy.transactions
        WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
          AND deletion_flagged_at IS NULL AND deletion_refused_at IS NULL
          AND date >= coalesce((SELECT oldest FROM span), '-infinity')
          AND id NOT IN (SELECT id FROM suspected) AND id NOT IN (SELECT id FROM older)
        ORDER BY date DESC, id LIMIT 50
    ) AS newest
    ORDER BY random() LIMIT 3
)
SELECT ARRAY(SELECT id FROM (SELECT id, 0 AS place FROM older
                             UNION ALL SELECT id, 1 FROM others) AS w
             ORDER BY place LIMIT 3) AS witnesses,
       ARRAY(SELECT a.id FROM asked a CROSS JOIN span s WHERE a.date >= s.with_older) AS bracketed;

-- name: holds_rows_created_since
-- params: item_id, account_id, since?
-- returns: value
-- Whether we hold live rows that a delta must list; not those whose deletion is pending.
SELECT EXISTS (
    SELECT FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND source_created_at >= $3
) AS holds;

-- name: holds_rows_seen_before
-- params: item_id, account_id, before?
-- returns: value
-- Whether an account has live rows first seen before a time, those aside that are flagged as
-- absent.
SELECT EXISTS (
    SELECT FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL AND deletion_flagged_at IS NULL
      AND first_seen_at < $3
) AS holds;

-- name: count_deletions
-- params: item_id, account_id, since, absent, one_in
-- returns: one DeletionCounts
-- How many rows of an account were tombstoned since a time for each cause that is limited, and how
-- many are live. Of these no more are counted than one_in for each row that is gone, or absent now:
-- of more, so many are allowed in any case.
WITH gone AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE deletion_cause = 'named') AS named,
           count(*) FILTER (WHERE deletion_cause = 'missing') AS missing
    FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NOT NULL AND deleted_at > $3
)
SELECT (SELECT count(*) FROM (
            SELECT FROM pluggy.transactions
            WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
            LIMIT $5::integer * ((SELECT greatest(named, missing) FROM gone) + $4::integer)
        ) AS counted) AS live,
       named, missing
FROM gone;

-- name: load_absent_rows
-- params: item_id, account_id, ids
-- returns: many AbsentRow
-- nullable: missing_since
-- Of these ids, those that we hold live and no person has said to keep.
SELECT t.id, t.missing_since, coalesce(t.deletion_cause = 'named', false) AS was_named
FROM unnest($3::uuid[]) AS absent(id)
CROSS JOIN LATERAL (
    SELECT * FROM pluggy.transactions WHERE item_id = $1 AND id = absent.id LIMIT 1) AS t
WHERE t.account_id = $2 AND t.deleted_at IS NULL AND t.deletion_refused_at IS NULL;

-- name: tombstone_transactions
-- params: item_id, account_id, ids, run_id, cause, now
-- returns: values
UPDATE pluggy.transactions
SET deleted_at = $6::timestamptz, changed_at = $6::timestamptz, run_id = $4,
    deletion_cause = $5, deletion_flagged_at = NULL, deletion_flag = NULL
-- IS TRUE: by the ids. Postgres expects few rows of an item, and would look at all of them.
WHERE (item_id = $1 AND account_id = $2) IS TRUE AND id = ANY($3::uuid[]) AND deleted_at IS NULL
RETURNING id;

-- name: tombstone_owned_transactions
-- params: item_id, owner_id, run_id, now
-- returns: count
-- Those of an account, or all of the item.
UPDATE pluggy.transactions
SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3, deletion_flagged_at = NULL,
    deletion_flag = NULL, deletion_cause = NULL, missing_since = NULL
WHERE item_id = $1 AND $2::uuid IN (account_id, item_id) AND deleted_at IS NULL;

-- name: mark_transaction_deletions
-- params: item_id, account_id, ids, run_id, reason, cause, now, waiting
-- returns: values
-- Absent rows that are not tombstoned yet, or only if a person says so; a row that is flagged so
-- already is not written. waiting: ids among them that a question has answered without, though it
-- had no older witness.
UPDATE pluggy.transactions t
SET deletion_flagged_at = coalesce(t.deletion_flagged_at, $7::timestamptz), deletion_flag = $5,
    deletion_cause = $6, changed_at = $7::timestamptz, run_id = $4,
    missing_since = CASE WHEN t.id = ANY($8::uuid[]) THEN coalesce(t.missing_since, $7::timestamptz)
                         ELSE t.missing_since END
-- IS TRUE: by the ids, as in tombstone_transactions.
WHERE (t.item_id = $1 AND t.account_id = $2) IS TRUE AND t.id = ANY($3::uuid[])
  AND t.deleted_at IS NULL
  AND (t.deletion_flag IS DISTINCT FROM $5 OR t.deletion_cause IS DISTINCT FROM $6
       OR (t.missing_since IS NULL AND t.id = ANY($8::uuid[])))
RETURNING t.id;

-- name: unmark_transaction_deletions
-- params: item_id, account_id, shown, run_id, now
-- returns: values
-- Rows that Pluggy has shown, though not so that they could be stored: they are not absent.
UPDATE pluggy.transactions
SET deletion_flagged_at = NULL, deletion_flag = NULL, missing_since = NULL, deletion_cause = NULL,
    changed_at = $5::timestamptz, run_id = $4
WHERE item_id = $1 AND account_id = $2 AND deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND id = ANY($3::uuid[])
RETURNING id;

-- name: load_unwitnessed
-- params: item_id, account_id, limit
-- returns: values
SELECT id FROM pluggy.transactions
WHERE item_id = $1 AND account_id = $2 AND deletion_flagged_at IS NOT NULL
  AND deletion_flag = 'no_witness' AND deleted_at IS NULL
ORDER BY date, id LIMIT $3;
