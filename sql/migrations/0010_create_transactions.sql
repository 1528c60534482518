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
    deletion_flagged_at timestamptz,
    deletion_flag text,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);
CREATE INDEX transactions_account_date ON pluggy.transactions (item_id, account_id, date DESC, id);
CREATE INDEX transactions_account_created
    ON pluggy.transactions (item_id, account_id, source_created_at);
CREATE INDEX transactions_run ON pluggy.transactions (run_id);
CREATE INDEX transactions_flagged ON pluggy.transactions (item_id)
    WHERE deletion_flagged_at IS NOT NULL;
