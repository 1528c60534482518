-- How far each step of an item is: one row per product and scope. scope_id is the account or the investment
-- that Pluggy lists the product by, and the nil UUID for a product that is listed for the whole item.
CREATE TABLE pluggy_sync.product_sync (
    item_id uuid NOT NULL,
    product text NOT NULL,
    scope_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    watermark timestamptz,
    source_updated_at timestamptz,
    complete_read_at timestamptz,
    walked_at timestamptz,
    walked_up_to timestamptz,
    fingerprint text,
    verified_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    failed_at timestamptz,
    next_try_at timestamptz,
    dead_at timestamptz,
    deferred_since timestamptz,
    failure_class text,
    failure_code text,
    error_id text,
    stale_reason text,
    PRIMARY KEY (item_id, product, scope_id)
) WITH (fillfactor = 80);

COMMENT ON COLUMN pluggy_sync.product_sync.watermark IS
    'Pluggy''s clock (Date header) when the last complete delta or walk started; only moves forward';
COMMENT ON COLUMN pluggy_sync.product_sync.source_updated_at IS
    'lastUpdatedAt of this product at Pluggy when our last complete read of it started';
COMMENT ON COLUMN pluggy_sync.product_sync.complete_read_at IS
    'our clock when the fetch of the last complete read started';
COMMENT ON COLUMN pluggy_sync.product_sync.walked_at IS
    'our clock when the last complete walk (all pages) started';

COMMENT ON COLUMN pluggy_sync.product_sync.scope_id IS
    'the account, or the investment, that Pluggy lists by; the nil uuid: the item';
COMMENT ON COLUMN pluggy_sync.product_sync.fingerprint IS
    'what an investment looked like when its transactions were last read';

COMMENT ON COLUMN pluggy_sync.product_sync.walked_up_to IS
    'newest createdAt that the last walk has listed: deltas start behind it, for an import shares one
    createdAt just before the watermark and need not be listed again';

CREATE INDEX product_sync_failed ON pluggy_sync.product_sync (failed_at) WHERE failed_at IS NOT NULL;
