-- What Pluggy lists for all (the institutions that can be connected, the tree of categories), and what
-- became of rows that were replaced.

CREATE VIEW pluggy_live.connectors AS
SELECT id, name, type, country, institution_url, image_url, primary_color, has_mfa, oauth,
       is_open_finance, is_sandbox, health_status, health_stage, products, source_created_at,
       source_updated_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.connectors
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.categories AS
SELECT id, description, description_translated, parent_id, parent_description, payload, run_id,
       first_seen_at, changed_at
FROM pluggy.categories
WHERE deleted_at IS NULL;

-- The one view that shows tombstones: every transaction with the row that stands for it, and the row
-- that it stands for. confidence orders the reasons, it is no probability.
CREATE VIEW pluggy_live.transaction_lineage AS
SELECT t.item_id, t.account_id, t.id, t.deleted_at IS NULL AS is_live, t.deleted_at,
       n.superseded_by, n.confidence, n.reason, n.linked_at, n.run_id AS link_run_id,
       o.id AS supersedes, t.description, t.currency_code, t.amount,
       coalesce(t.amount_in_account_currency, t.amount)
           * CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END AS signed_amount,
       CASE WHEN t.amount_in_account_currency IS NOT NULL THEN a.currency_code
            ELSE coalesce(t.currency_code, a.currency_code) END AS signed_currency_code,
       t.date, t.posted_on, t.status, t.source_created_at, t.payload, t.run_id, t.first_seen_at,
       t.changed_at
FROM pluggy.transactions t
LEFT JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
LEFT JOIN pluggy_sync.restatements n
    ON n.item_id = t.item_id AND n.id = t.id AND t.deleted_at IS NOT NULL
LEFT JOIN (pluggy_sync.restatements o
           JOIN pluggy.transactions g
               ON g.item_id = o.item_id AND g.id = o.id AND g.deleted_at IS NOT NULL)
    ON o.item_id = t.item_id AND o.superseded_by = t.id;

-- The same bank account held live through two items: each pair once, the item that was stored first ahead.
-- Nothing is left out of the other views because of it.
CREATE VIEW pluggy_live.duplicate_accounts AS
WITH live AS (
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
                           OR b.client_user_id = a.client_user_id)))));
