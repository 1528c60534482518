-- Rows of accounts that account_links links: the same movement, bill, position or contract, shown again by
-- the new connection. The older row is left out of pluggy_live, so that nothing counts twice.
CREATE TABLE pluggy_sync.row_links (
    item_id uuid NOT NULL,
    product text NOT NULL,
    id uuid NOT NULL,
    superseded_by_item_id uuid NOT NULL,
    superseded_by uuid NOT NULL,
    reason text NOT NULL,
    run_id bigint NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, product, id)
);

COMMENT ON TABLE pluggy_sync.row_links IS
    'Rows of an item that ends and the rows of its successor that show the same again';
COMMENT ON COLUMN pluggy_sync.row_links.product IS 'Our table name, such as transactions';
COMMENT ON COLUMN pluggy_sync.row_links.id IS 'The older row';
COMMENT ON COLUMN pluggy_sync.row_links.reason IS 'The fields that agree';

CREATE INDEX row_links_newer ON pluggy_sync.row_links (superseded_by_item_id, product, superseded_by);
CREATE INDEX row_links_run ON pluggy_sync.row_links (run_id);
