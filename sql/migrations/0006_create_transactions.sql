-- Transactions of bank accounts and credit cards: by far the largest table.
CREATE TABLE pluggy.transactions (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    description text,
    description_raw text,
    currency_code text,
    amount numeric NOT NULL,
    amount_in_account_currency numeric,
    date timestamptz NOT NULL,
    posted_on date NOT NULL,
    type text,
    status text,
    balance numeric,
    category text,
    category_id text,
    provider_code text,
    provider_id text,
    operation_type text,
    payment_method text,
    merchant_name text,
    installment_number integer,
    total_installments integer,
    bill_id uuid,
    order_in_day integer,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    deletion_cause text,
    missing_since timestamptz,
    deletion_flagged_at timestamptz,
    deletion_flag text,
    deletion_refused_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.transactions IS 'Transactions of bank accounts and credit cards';
COMMENT ON COLUMN pluggy.transactions.posted_on IS
    'The calendar day of date, by the rule of docs/consume.md for times without a zone';
COMMENT ON COLUMN pluggy.transactions.deletion_cause IS
    'Why it is flagged or a tombstone: named (by transactions/deleted), missing (not listed any more) or'
    ' accepted (by a person). Null: neither, or its account or item was deleted';
COMMENT ON COLUMN pluggy.transactions.missing_since IS
    'When an answer first left the row out without being proof of a deletion; null: it was listed since';
COMMENT ON COLUMN pluggy.transactions.deletion_flagged_at IS
    'Since when its deletion waits for a person; null: it does not';
COMMENT ON COLUMN pluggy.transactions.deletion_flag IS
    'Why the deletion waits for a person; null: none waits';
COMMENT ON COLUMN pluggy.transactions.deletion_refused_at IS
    'When a person decided that the row stays; null: nobody did, or Pluggy has listed it again since';

-- What a sync reads by. Rows of a first import share one createdAt, which makes the index of it the smallest
-- of all: it is partial, so that no statement uses it that does not ask by createdAt.
CREATE INDEX transactions_account_date ON pluggy.transactions (item_id, account_id, date DESC, id);
CREATE INDEX transactions_account_created ON pluggy.transactions (item_id, account_id, source_created_at)
    WHERE source_created_at IS NOT NULL;
CREATE INDEX transactions_run ON pluggy.transactions (run_id);
CREATE INDEX transactions_deletions ON pluggy.transactions (item_id, account_id)
    WHERE deletion_flagged_at IS NOT NULL;
CREATE INDEX transactions_tombstones ON pluggy.transactions (item_id, account_id, deleted_at)
    WHERE deleted_at IS NOT NULL;

-- What applications query pluggy_live.transactions by without an item_id: a row, the rows of an account by
-- date, the rows of a bill, the days of everybody, and recent changes. `python -m bench.consumers` measures
-- what they cost a first load and what they bring.
CREATE INDEX transactions_id ON pluggy.transactions (id);
CREATE INDEX transactions_by_account ON pluggy.transactions (account_id, date);
CREATE INDEX transactions_bill ON pluggy.transactions (bill_id) WHERE bill_id IS NOT NULL;
CREATE INDEX transactions_posted_on ON pluggy.transactions (posted_on);
CREATE INDEX transactions_changed ON pluggy.transactions (changed_at);
