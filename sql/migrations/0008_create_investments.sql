-- Investments: funds, fixed income, shares and pensions.
CREATE TABLE pluggy.investments (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    type text,
    subtype text,
    name text,
    number text,
    code text,
    isin text,
    status text,
    currency_code text,
    balance numeric,
    amount numeric,
    amount_original numeric,
    amount_profit numeric,
    amount_withdrawal numeric,
    quantity numeric,
    value numeric,
    taxes numeric,
    taxes2 numeric,
    rate numeric,
    rate_type text,
    fixed_annual_rate numeric,
    last_month_rate numeric,
    annual_rate numeric,
    last_twelve_months_rate numeric,
    issuer text,
    issuer_cnpj text,
    owner text,
    institution_name text,
    date timestamptz,
    due_date date,
    issue_date date,
    purchase_date date,
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

COMMENT ON TABLE pluggy.investments IS 'Investments of an item';

-- The last row of a list is a tombstone after two empty lists, at least a day and one successful collection
-- apart, while GET by id answers 404 for every row.
COMMENT ON COLUMN pluggy.investments.missing_since IS
    'Our clock at the first empty list; null: the row was listed since';
COMMENT ON COLUMN pluggy.investments.missing_collected_at IS
    'Pluggy''s time of the collection that the first empty list showed; null: the row was listed since';

CREATE INDEX investments_run ON pluggy.investments (run_id);
