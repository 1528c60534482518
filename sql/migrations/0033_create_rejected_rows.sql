-- Rows that could not be read or stored. They are set aside with the reason, so that the rest of their page
-- commits. A row that is rejected again replaces the one before; one that can be read again is deleted here.
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

COMMENT ON TABLE pluggy_sync.rejected_rows IS
    'Rows of Pluggy that could not be read or stored, with the reason';
COMMENT ON COLUMN pluggy_sync.rejected_rows.item_id IS 'The nil UUID: reference data, of no item';
COMMENT ON COLUMN pluggy_sync.rejected_rows.scope_id IS
    'The account or the investment that Pluggy lists by; the nil UUID: the whole item';
COMMENT ON COLUMN pluggy_sync.rejected_rows.row_id IS
    'Pluggy''s id, or a hash of the row where it has none';
COMMENT ON COLUMN pluggy_sync.rejected_rows.body IS 'The row as Pluggy sent it; personal data';
