-- Accounts are matched by keys, so that the join is by equality: the same id under another item, the same
-- transfer number at the bank, or the same number and holder (tax number, name or user of yours).
CREATE VIEW pluggy_live.account_lineage AS
WITH stored AS (
    SELECT a.item_id, a.id, a.type, a.subtype, a.currency_code, a.first_seen_at, a.deleted_at,
           i.connector_id, i.ended_at, nullif(btrim(a.number), '') AS number,
           nullif(btrim(a.bank_transfer_number), '') AS transfer_number,
           nullif(btrim(a.tax_number), '') AS tax_number,
           nullif(btrim(lower(a.owner)), '') AS owner, nullif(i.client_user_id, '') AS client_user_id
    FROM pluggy.accounts a
    JOIN pluggy.items i ON i.id = a.item_id
), keys AS (
    SELECT h.item_id, h.id, h.first_seen_at, h.deleted_at, k.place, k.reason, k.key
    FROM stored h
    CROSS JOIN LATERAL (VALUES
        (1, 'same_id', jsonb_build_array(h.type, h.id)),
        (2, 'same_transfer_number', CASE WHEN h.transfer_number IS NOT NULL THEN jsonb_build_array(
            h.type, h.connector_id, h.currency_code, h.transfer_number) END),
        (3, 'same_number_and_holder', CASE WHEN h.number IS NOT NULL AND h.tax_number IS NOT NULL THEN
            jsonb_build_array(h.type, h.connector_id, h.currency_code, h.subtype, h.number,
                              'tax_number', h.tax_number) END),
        (3, 'same_number_and_holder', CASE WHEN h.number IS NOT NULL AND h.owner IS NOT NULL THEN
            jsonb_build_array(h.type, h.connector_id, h.currency_code, h.subtype, h.number,
                              'owner', h.owner) END),
        (3, 'same_number_and_holder', CASE WHEN h.number IS NOT NULL AND h.client_user_id IS NOT NULL THEN
            jsonb_build_array(h.type, h.connector_id, h.currency_code, h.subtype, h.number,
                              'client_user_id', h.client_user_id) END)
    ) AS k(place, reason, key)
    WHERE k.key IS NOT NULL
), successors AS (
    -- The first account that was stored after the tombstone's own and matches it.
    SELECT DISTINCT ON (o.item_id, o.id) o.item_id, o.id, o.first_seen_at,
           n.item_id AS new_item_id, n.id AS new_id, n.reason
    FROM keys o
    JOIN keys n ON n.place = o.place AND n.key = o.key
        AND (n.first_seen_at, n.item_id, n.id) > (o.first_seen_at, o.item_id, o.id)
    WHERE o.deleted_at IS NOT NULL
    ORDER BY o.item_id, o.id, n.first_seen_at, n.item_id, n.id, o.place
), links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by, reason, state
    FROM pluggy_sync.account_links WHERE state IN ('linked', 'accepted')
), reconnected AS (
    SELECT h.item_id, h.id, h.first_seen_at, l.superseded_by_item_id AS new_item_id,
           l.superseded_by AS new_id,
           CASE l.state WHEN 'accepted' THEN 'accepted' ELSE l.reason END AS reason
    FROM stored h
    JOIN links l ON l.item_id = h.item_id AND l.account_id = h.id
    WHERE h.deleted_at IS NULL
), followed AS (
    SELECT * FROM successors UNION ALL SELECT * FROM reconnected
), predecessors AS (
    SELECT DISTINCT ON (new_item_id, new_id) new_item_id, new_id, item_id, id
    FROM followed
    ORDER BY new_item_id, new_id, first_seen_at DESC, item_id, id
)
SELECT h.item_id, h.id, h.deleted_at IS NULL AS is_live, h.deleted_at, h.ended_at, h.type, h.connector_id,
       s.new_item_id AS superseded_by_item_id, s.new_id AS superseded_by, s.reason,
       p.item_id AS supersedes_item_id, p.id AS supersedes, h.first_seen_at
FROM stored h
LEFT JOIN followed s ON s.item_id = h.item_id AND s.id = h.id
LEFT JOIN predecessors p ON p.new_item_id = h.item_id AND p.new_id = h.id;

COMMENT ON VIEW pluggy_live.account_lineage IS
    'Every account, tombstones too, with the account that replaced it and the one that it '
    'replaced: a person connects again, and the bank''s account gets a new id or a new item';
COMMENT ON COLUMN pluggy_live.account_lineage.item_id IS 'The item that owns the account';
COMMENT ON COLUMN pluggy_live.account_lineage.id IS 'Pluggy''s id of the account, tombstone or not';
COMMENT ON COLUMN pluggy_live.account_lineage.is_live IS 'Whether pluggy_live.accounts shows it';
COMMENT ON COLUMN pluggy_live.account_lineage.deleted_at IS
    'When it became a tombstone here, UTC; null: it is live';
COMMENT ON COLUMN pluggy_live.account_lineage.ended_at IS
    'When Pluggy deleted its item after withdrawing the connector, UTC; null: it is not kept so';
COMMENT ON COLUMN pluggy_live.account_lineage.type IS
    'BANK or CREDIT (a card), or a newer word of Pluggy''s; null: not sent';
COMMENT ON COLUMN pluggy_live.account_lineage.connector_id IS
    'The bank (connectors.id); null: not sent';
COMMENT ON COLUMN pluggy_live.account_lineage.superseded_by_item_id IS
    'The item of superseded_by, which may be the same; null: none is known';
COMMENT ON COLUMN pluggy_live.account_lineage.superseded_by IS
    'The account that goes on with this one (accounts.id): of a tombstone the first one stored '
    'after it that is the same, of an item that ends the one it is linked to; null: none';
COMMENT ON COLUMN pluggy_live.account_lineage.reason IS
    'Fields that are the same: same_id, same_transfer_number (and bank), same_number_and_holder (and '
    'bank, kind and currency); of an item that ends same_number_and_tax_number, same_card_and_rows '
    '(four digits, holder and transactions), or accepted by a person; null: no link';
COMMENT ON COLUMN pluggy_live.account_lineage.supersedes_item_id IS
    'The item of supersedes, which may be the same; null: none is known';
COMMENT ON COLUMN pluggy_live.account_lineage.supersedes IS
    'The account that this one goes on with (accounts.id), a tombstone or of an item that ends, the '
    'newest if several; null: none is known';
COMMENT ON COLUMN pluggy_live.account_lineage.first_seen_at IS
    'When the account was first stored here, UTC';
