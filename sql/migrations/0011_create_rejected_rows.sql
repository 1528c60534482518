-- A row that could not be read or stored: set aside with its reason, so that its page can commit.
-- The newest sight of a row replaces the one before; a row that is read again leaves this table.
CREATE TABLE pluggy_sync.rejected_rows (
    item_id uuid NOT NULL,
    product text NOT NULL,
    scope_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    row_id text NOT NULL,
    reason text NOT NULL,
    body bytea NOT NULL,
    run_id bigint NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, product, scope_id, row_id)
);
