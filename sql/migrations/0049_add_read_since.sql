-- From which createdAt the read listed that gave a step its stamp: a stamp newer than an event answers
-- it only if that read reached back to where the event says that rows begin.
ALTER TABLE pluggy_sync.product_sync ADD COLUMN read_since timestamptz;
ALTER TABLE pluggy_sync.account_walks ADD COLUMN read_since timestamptz;

COMMENT ON COLUMN pluggy_sync.product_sync.read_since IS
    'createdAt from which the read of complete_read_at listed rows; null: all of them';
COMMENT ON COLUMN pluggy_sync.account_walks.read_since IS
    'createdAt from which it lists rows; null: all of them';
