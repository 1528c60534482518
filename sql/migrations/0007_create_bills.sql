-- Bills of credit cards.
CREATE TABLE pluggy.bills (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    due_date date,
    closing_date date,
    total_amount numeric,
    currency_code text,
    minimum_payment_amount numeric,
    allows_installments boolean,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.bills IS 'Bills of a credit card';
CREATE INDEX bills_run ON pluggy.bills (run_id);
CREATE INDEX bills_account ON pluggy.bills (item_id, account_id, due_date);
