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
