-- confidence orders the reasons, it is no probability. Links are read by CTEs: restatements stay on the
-- coordinator of a sharded Postgres, transactions do not.
CREATE VIEW pluggy_live.transaction_lineage AS
WITH newer AS (
    SELECT item_id, id, superseded_by, confidence, reason, linked_at, run_id
    FROM pluggy_sync.restatements
), older AS (
    SELECT item_id, id, superseded_by FROM pluggy_sync.restatements
), reconnected AS (
    SELECT item_id, id, superseded_by_item_id, superseded_by, reason, linked_at, run_id
    FROM pluggy_sync.row_links WHERE product = 'transactions'
)
SELECT t.item_id, t.account_id, t.id, t.deleted_at IS NULL AND c.id IS NULL AS is_live, t.deleted_at,
       CASE WHEN c.id IS NULL THEN n.item_id ELSE c.superseded_by_item_id END AS superseded_by_item_id,
       coalesce(c.superseded_by, n.superseded_by) AS superseded_by, n.confidence,
       coalesce(c.reason, n.reason) AS reason, coalesce(c.linked_at, n.linked_at) AS linked_at,
       coalesce(c.run_id, n.run_id) AS link_run_id,
       o.id AS supersedes, t.description, t.currency_code, t.amount,
       coalesce(t.amount_in_account_currency, t.amount)
           * CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END AS signed_amount,
       CASE WHEN t.amount_in_account_currency IS NOT NULL THEN a.currency_code
            ELSE coalesce(t.currency_code, a.currency_code) END AS signed_currency_code,
       t.date, t.posted_on, t.status, t.source_created_at, t.payload, t.run_id, t.first_seen_at,
       t.changed_at
FROM pluggy.transactions t
LEFT JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
LEFT JOIN newer n ON n.item_id = t.item_id AND n.id = t.id AND t.deleted_at IS NOT NULL
LEFT JOIN reconnected c ON c.item_id = t.item_id AND c.id = t.id AND t.deleted_at IS NULL
LEFT JOIN (older o
           JOIN pluggy.transactions g
               ON g.item_id = o.item_id AND g.id = o.id AND g.deleted_at IS NOT NULL)
    ON o.item_id = t.item_id AND o.superseded_by = t.id;

COMMENT ON VIEW pluggy_live.transaction_lineage IS
    'Every transaction, tombstones too, with the row that replaced it and the row that it '
    'replaced. The only view that shows tombstones of transactions';
COMMENT ON COLUMN pluggy_live.transaction_lineage.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.transaction_lineage.account_id IS
    'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.transaction_lineage.id IS 'Pluggy''s id of the row, tombstone or not';
COMMENT ON COLUMN pluggy_live.transaction_lineage.is_live IS
    'Whether pluggy_live.transactions shows it';
COMMENT ON COLUMN pluggy_live.transaction_lineage.deleted_at IS
    'When it became a tombstone here, UTC; null: it is live';
COMMENT ON COLUMN pluggy_live.transaction_lineage.superseded_by_item_id IS
    'The item of superseded_by: another one if the person has connected again; null: none is known';
COMMENT ON COLUMN pluggy_live.transaction_lineage.superseded_by IS
    'The row that replaced this tombstone, or that shows this movement again under a new '
    'connection; null: none is known';
COMMENT ON COLUMN pluggy_live.transaction_lineage.confidence IS
    'How much of amount, date and text agrees: an order, no probability; null: no link, or one '
    'between two connections';
COMMENT ON COLUMN pluggy_live.transaction_lineage.reason IS
    'Fields that agree, such as amount+date; null: no link';
COMMENT ON COLUMN pluggy_live.transaction_lineage.linked_at IS
    'When it was linked, UTC; null: no link';
COMMENT ON COLUMN pluggy_live.transaction_lineage.link_run_id IS
    'The run that linked it, in the feed; null: no link';
COMMENT ON COLUMN pluggy_live.transaction_lineage.supersedes IS
    'The tombstone that this row replaced; null: none is known';
COMMENT ON COLUMN pluggy_live.transaction_lineage.description IS
    'Text of the row, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.transaction_lineage.currency_code IS
    'ISO 4217 code of amount, which may be a foreign one; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.transaction_lineage.amount IS
    'As Pluggy sends it, in currency_code: negative is out of a BANK account; of a card positive '
    'is a purchase';
COMMENT ON COLUMN pluggy_live.transaction_lineage.signed_amount IS
    'The holder''s view, in signed_currency_code: money out is negative, purchases by card too';
COMMENT ON COLUMN pluggy_live.transaction_lineage.signed_currency_code IS
    'ISO 4217 code of signed_amount: the account''s where Pluggy converts, else the row''s; null: '
    'neither says. Sums of several currencies mean nothing: group by it';
COMMENT ON COLUMN pluggy_live.transaction_lineage.date IS
    'Time reported by the bank, UTC; a bare date is 00:00 UTC: use posted_on for days';
COMMENT ON COLUMN pluggy_live.transaction_lineage.posted_on IS
    'Calendar day: of a bare date that date, else the day in POSTED_ON_ZONE';
COMMENT ON COLUMN pluggy_live.transaction_lineage.status IS
    'State, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.transaction_lineage.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.transaction_lineage.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.transaction_lineage.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.transaction_lineage.first_seen_at IS
    'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.transaction_lineage.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
