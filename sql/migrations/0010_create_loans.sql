-- Loans.
CREATE TABLE pluggy.loans (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    contract_number text,
    ipoc_code text,
    product_name text,
    type text,
    kind text,
    currency_code text,
    contract_amount numeric,
    outstanding_balance numeric,
    cet numeric,
    date date,
    contract_date date,
    settlement_date date,
    due_date date,
    first_installment_due_date date,
    total_installments integer,
    paid_installments integer,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    missing_since timestamptz,
    missing_collected_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.loans IS 'Loans of an item';

-- The last row of a list is a tombstone after two empty lists, at least a day and one successful collection
-- apart, while GET by id answers 404 for every row.
COMMENT ON COLUMN pluggy.loans.missing_since IS
    'Our clock at the first empty list; null: the row was listed since';
COMMENT ON COLUMN pluggy.loans.missing_collected_at IS
    'Pluggy''s time of the collection that the first empty list showed; null: the row was listed since';

CREATE INDEX loans_run ON pluggy.loans (run_id);
