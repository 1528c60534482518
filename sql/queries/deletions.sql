-- name: list_deletions
-- params: item_id? = null, limit? = null
-- returns: many PendingDeletion
-- nullable: reason, flagged_at, posted_on
-- Null: any item, without a limit.
SELECT * FROM pluggy_ops.flagged_deletions
WHERE $1::uuid IS NULL OR item_id = $1
ORDER BY flagged_at, item_id, transaction_id LIMIT $2;

-- name: load_items_with_deletions
-- params: item_id?, ids?
-- returns: values
-- Items that have pending deletions. ids: of transactions or accounts. Null: any.
SELECT item_id FROM pluggy.transactions
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND ($1::uuid IS NULL OR item_id = $1) AND ($2::uuid[] IS NULL OR id = ANY ($2))
UNION
SELECT item_id FROM pluggy.accounts
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND ($1::uuid IS NULL OR item_id = $1) AND ($2::uuid[] IS NULL OR id = ANY ($2))
ORDER BY item_id;

-- name: load_account_deletions
-- params: item_id, ids?
-- returns: values
-- ids null: all.
SELECT id FROM pluggy.accounts
WHERE item_id = $1 AND deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND ($2::uuid[] IS NULL OR id = ANY ($2))
ORDER BY id;

-- name: refuse_account_deletions
-- params: item_id, ids, run_id, now
-- returns: none
-- A person says that these accounts stay.
UPDATE pluggy.accounts
SET deletion_refused_at = $4::timestamptz, changed_at = $4::timestamptz, run_id = $3,
    deletion_flagged_at = NULL, deletion_flag = NULL
WHERE item_id = $1 AND id = ANY ($2::uuid[]);

-- name: lock_lease
-- params: item_id
-- returns: none
-- Every page transaction of a sync begins by writing this row: none is under way, and none begins,
-- until the caller's transaction has ended.
SELECT set_config('lock_timeout', '10s', true) AS lock_timeout,
       (SELECT item_id FROM pluggy_sync.item_leases WHERE item_id = $1 FOR UPDATE) AS locked;

-- name: end_claim
-- params: item_id
-- returns: none
-- An account is tombstoned that a claim under way may be reading: see pluggy_sync.end_claim.
SELECT pluggy_sync.end_claim($1);

-- name: make_due
-- params: item_id
-- returns: none
-- Events that waited for a walk of a tombstoned account are planned again.
SELECT FROM pluggy_sync.revive_events('dead', '{}', ARRAY[$1::uuid]);

-- name: load_transaction_deletions
-- params: item_id, ids?
-- returns: values
-- ids null: all.
SELECT id FROM pluggy.transactions
WHERE item_id = $1 AND deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND ($2::uuid[] IS NULL OR id = ANY ($2))
ORDER BY id;

-- name: accept_transaction_deletions
-- params: item_id, ids, run_id, now
-- returns: none
-- A person agrees that these rows are gone.
UPDATE pluggy.transactions
SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3, deletion_flagged_at = NULL,
    deletion_flag = NULL, deletion_cause = 'accepted'
WHERE item_id = $1 AND id = ANY ($2::uuid[]);

-- name: refuse_transaction_deletions
-- params: item_id, ids, run_id, now
-- returns: none
-- A person says that these rows stay.
UPDATE pluggy.transactions
SET deletion_refused_at = $4::timestamptz, changed_at = $4, run_id = $3,
    deletion_flagged_at = NULL, deletion_flag = NULL, deletion_cause = NULL, missing_since = NULL
WHERE item_id = $1 AND id = ANY ($2::uuid[]);
