-- BETWEEN: by the indexes of what is flagged, as in items_not_fresh.
CREATE VIEW pluggy_ops.flagged_deletions AS
SELECT item_id, account_id, id AS transaction_id, deletion_flag AS reason,
       deletion_flagged_at AS flagged_at, posted_on
FROM pluggy.transactions
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'
UNION ALL
SELECT item_id, id, NULL, deletion_flag, deletion_flagged_at, NULL
FROM pluggy.accounts
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
  AND item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff';

COMMENT ON VIEW pluggy_ops.flagged_deletions IS
    'Rows that are absent at Pluggy and not proven deleted: a person accepts or refuses each';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.account_id IS
    'The account of the row, or the absent account itself';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.transaction_id IS
    'The id that deletions accept and refuse take; null: the account itself is absent, and its id is taken';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.reason IS
    'Why it is not tombstoned: no_witness (asked again automatically), too_many_at_once, last_account';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.flagged_at IS 'Since when the deletion is pending, UTC';
COMMENT ON COLUMN pluggy_ops.flagged_deletions.posted_on IS
    'Calendar day of the transaction; null: it is an account';
