CREATE VIEW pluggy_live.duplicate_accounts AS
WITH links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by FROM pluggy_sync.account_links
    WHERE state IN ('linked', 'accepted')
), live AS (
    SELECT a.item_id, a.id, a.type, a.subtype, a.currency_code, a.first_seen_at, i.connector_id,
           nullif(btrim(a.number), '') AS number,
           nullif(btrim(a.bank_transfer_number), '') AS transfer_number,
           nullif(btrim(a.tax_number), '') AS tax_number,
           nullif(btrim(lower(a.owner)), '') AS owner, i.client_user_id
    FROM pluggy.accounts a
    JOIN pluggy.items i ON i.id = a.item_id AND i.deleted_at IS NULL
    WHERE a.deleted_at IS NULL
)
SELECT a.item_id, a.id AS account_id, b.item_id AS other_item_id, b.id AS other_account_id, a.type,
       CASE WHEN a.id = b.id THEN 'same_id'
            WHEN a.transfer_number = b.transfer_number THEN 'same_transfer_number'
            ELSE 'same_number_and_holder' END AS reason,
       a.first_seen_at, b.first_seen_at AS other_first_seen_at
FROM live a
JOIN live b ON b.item_id <> a.item_id AND b.type IS NOT DISTINCT FROM a.type
    AND (a.first_seen_at, a.item_id, a.id) < (b.first_seen_at, b.item_id, b.id)
    AND (a.id = b.id
         OR (b.connector_id = a.connector_id AND b.currency_code IS NOT DISTINCT FROM a.currency_code
             AND (b.transfer_number = a.transfer_number
                  OR (b.number = a.number AND b.subtype IS NOT DISTINCT FROM a.subtype
                      AND (b.tax_number = a.tax_number OR b.owner = a.owner
                           OR b.client_user_id = a.client_user_id)))))
WHERE NOT EXISTS (SELECT FROM links l
                  WHERE (l.item_id, l.account_id, l.superseded_by_item_id, l.superseded_by)
                        IN ((a.item_id, a.id, b.item_id, b.id), (b.item_id, b.id, a.item_id, a.id)));

COMMENT ON VIEW pluggy_live.duplicate_accounts IS
    'The same bank account, live through two items: each pair once, the one that was stored '
    'first ahead. Nothing is left out of the other views because of it; pairs that '
    'account_lineage links are not listed';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.account_id IS
    'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.other_item_id IS
    'The item through which the same account is connected again';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.other_account_id IS
    'The account of other_item_id; its rows stand in the other views too';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.type IS 'Kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.reason IS
    'Fields that are the same: same_id, same_transfer_number (and bank), same_number_and_holder (and '
    'bank, kind and currency)';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.first_seen_at IS
    'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.duplicate_accounts.other_first_seen_at IS
    'When the second was first stored here, UTC';
