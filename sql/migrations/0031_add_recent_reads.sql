-- Once a day the last 14 days of an account are read; one of more than a page goes on as a walk.
ALTER TABLE pluggy_sync.product_sync ADD COLUMN recent_at timestamptz;
UPDATE pluggy_sync.product_sync SET recent_at = walked_at WHERE product = 'transactions';

COMMENT ON COLUMN pluggy_sync.product_sync.recent_at IS
    'our clock when the last read of the last 14 days started, or a walk, which covers them';
COMMENT ON COLUMN pluggy_sync.product_sync.verified_at IS
    'our clock when the last read started that covers every row and proves what is absent';

ALTER TABLE pluggy_sync.account_walks DROP CONSTRAINT account_walks_kind_check;
ALTER TABLE pluggy_sync.account_walks
    ADD CONSTRAINT account_walks_kind_check CHECK (kind IN ('walk', 'delta', 'recent'));
