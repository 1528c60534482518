-- Accounts of items that Pluggy ends, and the account of a new connection that goes on with each.
CREATE TABLE pluggy_sync.account_links (
    item_id uuid NOT NULL,
    account_id uuid NOT NULL,
    superseded_by_item_id uuid NOT NULL,
    superseded_by uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('linked', 'proposed', 'accepted', 'refused')),
    reason text NOT NULL,
    matching_rows bigint NOT NULL,
    compared_rows bigint NOT NULL,
    checked_seq bigint NOT NULL DEFAULT 0,
    run_id bigint NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, account_id, superseded_by_item_id, superseded_by)
);

COMMENT ON TABLE pluggy_sync.account_links IS
    'The same account of the bank under an item that ends and under its successor';
COMMENT ON COLUMN pluggy_sync.account_links.state IS
    'linked: certain; proposed: waits for a person; accepted, refused: by a person';
COMMENT ON COLUMN pluggy_sync.account_links.matching_rows IS
    'Transactions of both that agree in day and amount, of compared_rows';
COMMENT ON COLUMN pluggy_sync.account_links.compared_rows IS
    'Transactions of the older account dated within what the newer one covers';
COMMENT ON COLUMN pluggy_sync.account_links.checked_seq IS
    'Place in the feed up to which their rows are linked';

CREATE UNIQUE INDEX account_links_in_force ON pluggy_sync.account_links (item_id, account_id)
    WHERE state IN ('linked', 'accepted');
