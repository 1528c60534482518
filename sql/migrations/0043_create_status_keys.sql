-- Keys of statusDetail by product: every migrate adds those that worker/entities/ declares. A migration
-- has to delete those that are declared no more.
CREATE TABLE pluggy_sync.status_keys (
    product text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (product, key)
);
COMMENT ON TABLE pluggy_sync.status_keys IS
    'Under which keys Pluggy''s statusDetail tells of a product; pluggy_ops.freshness reads them';
