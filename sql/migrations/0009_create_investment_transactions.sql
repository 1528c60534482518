-- Movements of investments. Pluggy answers no GET for a single one, so the list alone proves a deletion: a
-- row is a tombstone after two complete, non-empty lists without it.
CREATE TABLE pluggy.investment_transactions (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    investment_id uuid NOT NULL,
    type text,
    movement_type text,
    quantity numeric,
    value numeric,
    amount numeric,
    net_amount numeric,
    date timestamptz,
    trade_date timestamptz,
    description text,
    brokerage_number text,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    missing_since timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.investment_transactions IS 'Movements of an investment';
COMMENT ON COLUMN pluggy.investment_transactions.missing_since IS
    'When a complete, non-empty list first left the row out; null: it was listed since';

CREATE INDEX investment_transactions_run ON pluggy.investment_transactions (run_id);
CREATE INDEX investment_transactions_investment
    ON pluggy.investment_transactions (item_id, investment_id, date);
