-- Accounts are matched by keys, so that the join is by equality, as in account_lineage.
CREATE VIEW pluggy_live.duplicate_accounts AS
WITH links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by FROM pluggy_sync.account_links
    WHERE state IN ('linked', 'accepted')
), live AS (
    SELECT a.item_id, a.id, a.type, a.subtype, a.currency_code, a.first_seen_at, i.connector_id,
           nullif(btrim(a.number), '') AS number,
           nullif(btrim(a.bank_transfer_number), '') AS transfer_number,
           nullif(btrim(a.tax_number), '') AS tax_number,
           nullif(btrim(lower(a.owner)), '') AS owner,
           nullif(i.client_user_id, '') AS client_user_id
    FROM pluggy.accounts a
    JOIN pluggy.items i ON i.id = a.item_id AND i.deleted_at IS NULL
    WHERE a.deleted_at IS NULL
), keys AS (
    SELECT v.item_id, v.id, v.type, v.first_seen_at, k.place, k.key
    FROM live v
    CROSS JOIN LATERAL (VALUES
        (1, jsonb_build_array(v.type, v.id)),
        (2, CASE WHEN v.transfer_number IS NOT NULL THEN jsonb_build_array(
            v.type, v.connector_id, v.currency_code, v.transfer_number) END),
        (3, CASE WHEN v.number IS NOT NULL AND v.tax_number IS NOT NULL THEN jsonb_build_array(
            v.type, v.connector_id, v.currency_code, v.subtype, v.number, 'tax_number', v.tax_number) END),
        (3, CASE WHEN v.number IS NOT NULL AND v.owner IS NOT NULL THEN jsonb_build_array(
            v.type, v.connector_id, v.currency_code, v.subtype, v.number, 'owner', v.owner) END),
        (3, CASE WHEN v.number IS NOT NULL AND v.client_user_id IS NOT NULL THEN jsonb_build_array(
            v.type, v.connector_id, v.currency_code, v.subtype, v.number, 'user', v.client_user_id) END)
    ) AS k(place, key)
    WHERE k.key IS NOT NULL AND (k.place = 1 OR v.connector_id IS NOT NULL)
), pairs AS (
    SELECT a.item_id, a.id, b.item_id AS other_item_id, b.id AS other_id, a.type,
           min(a.place) AS place, a.first_seen_at, b.first_seen_at AS other_first_seen_at
    FROM keys a
    JOIN keys b ON b.place = a.place AND b.key = a.key AND b.item_id <> a.item_id
        AND (a.first_seen_at, a.item_id, a.id) < (b.first_seen_at, b.item_id, b.id)
    GROUP BY a.item_id, a.id, b.item_id, b.id, a.type, a.first_seen_at, b.first_seen_at
)
SELECT p.item_id, p.id AS account_id, p.other_item_id, p.other_id AS other_account_id, p.type,
       CASE p.place WHEN 1 THEN 'same_id' WHEN 2 THEN 'same_transfer_number'
                    ELSE 'same_number_and_holder' END AS reason,
       p.first_seen_at, p.other_first_seen_at
FROM pairs p
WHERE NOT EXISTS (SELECT FROM links l
                  WHERE (l.item_id, l.account_id, l.superseded_by_item_id, l.superseded_by)
                        IN ((p.item_id, p.id, p.other_item_id, p.other_id),
                            (p.other_item_id, p.other_id, p.item_id, p.id)));

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
