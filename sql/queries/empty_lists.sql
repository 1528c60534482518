-- name: load_missing_investments
-- params: item_id
-- returns: many MissingRow
-- nullable: missing_since, missing_collected_at
-- Live rows with the first look that missed them.
SELECT id, missing_since, missing_collected_at FROM pluggy.investments
WHERE item_id = $1 AND deleted_at IS NULL;

-- name: load_missing_loans
-- params: item_id
-- returns: many MissingRow
-- nullable: missing_since, missing_collected_at
SELECT id, missing_since, missing_collected_at FROM pluggy.loans
WHERE item_id = $1 AND deleted_at IS NULL;

-- name: load_missing_accounts
-- params: item_id
-- returns: many MissingRow
-- nullable: missing_since, missing_collected_at
SELECT id, coalesce(deletion_flagged_at, deletion_refused_at) AS missing_since,
       NULL::timestamptz AS missing_collected_at
FROM pluggy.accounts
WHERE item_id = $1 AND deleted_at IS NULL;

-- name: miss_investments
-- params: item_id, ids, now, collected_at?, run_id
-- returns: none
-- collected_at: the collection that the look saw.
UPDATE pluggy.investments
SET missing_since = $3::timestamptz, missing_collected_at = $4, changed_at = $3::timestamptz,
    run_id = $5
WHERE item_id = $1 AND id = ANY ($2::uuid[]) AND deleted_at IS NULL;

-- name: miss_loans
-- params: item_id, ids, now, collected_at?, run_id
-- returns: none
-- collected_at: the collection that the look saw.
UPDATE pluggy.loans
SET missing_since = $3::timestamptz, missing_collected_at = $4, changed_at = $3::timestamptz,
    run_id = $5
WHERE item_id = $1 AND id = ANY ($2::uuid[]) AND deleted_at IS NULL;

-- name: miss_accounts
-- params: item_id, ids, now, collected_at?, run_id
-- returns: none
-- All accounts of an item are gone: never tombstoned by themselves. collected_at is not used.
UPDATE pluggy.accounts
SET deletion_flagged_at = $3::timestamptz, deletion_flag = 'last_account',
    changed_at = $3::timestamptz, run_id = $5
WHERE item_id = $1 AND id = ANY ($2::uuid[]) AND deleted_at IS NULL
  AND deletion_flagged_at IS NULL
  AND num_nulls($4::timestamptz) >= 0;

-- name: has_another_list
-- params: item_id, product, since
-- returns: value
-- Whether a list of another product of an item was read with rows since a time.
SELECT EXISTS (
    SELECT FROM pluggy_sync.product_sync p
    WHERE p.item_id = $1 AND p.product <> $2 AND p.deferred_since IS NULL AND p.dead_at IS NULL
      AND p.complete_read_at > $3
      AND CASE p.product
          WHEN 'accounts' THEN EXISTS (SELECT FROM pluggy.accounts
                                       WHERE item_id = $1 AND deleted_at IS NULL)
          WHEN 'investments' THEN EXISTS (SELECT FROM pluggy.investments
                                          WHERE item_id = $1 AND deleted_at IS NULL)
          WHEN 'loans' THEN EXISTS (SELECT FROM pluggy.loans
                                    WHERE item_id = $1 AND deleted_at IS NULL)
          ELSE false
      END) AS has_rows;
