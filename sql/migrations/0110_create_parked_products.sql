-- Products that Pluggy refuses for several items while it answers the rest of what we ask: they are not
-- asked for until a probe of theirs is answered; all other products go on. A row exists only while its
-- product is parked.
CREATE TABLE pluggy_sync.parked_products (
    product text PRIMARY KEY,
    endpoint text NOT NULL,
    failure_code text NOT NULL,
    error_id text,
    items integer NOT NULL,
    advice text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    probe_at timestamptz NOT NULL,
    probed_at timestamptz
);

COMMENT ON TABLE pluggy_sync.parked_products IS
    'products that Pluggy refuses as a whole: parked alone, probed once an hour';
COMMENT ON COLUMN pluggy_sync.parked_products.product IS
    'our table name of the product, as in product_sync.product';
COMMENT ON COLUMN pluggy_sync.parked_products.endpoint IS
    'the endpoint that refuses, without ids, such as GET /loans';
COMMENT ON COLUMN pluggy_sync.parked_products.failure_code IS
    'HTTP status and Pluggy''s codeDescription, such as 403:FORBIDDEN or 410:no_code';
COMMENT ON COLUMN pluggy_sync.parked_products.error_id IS
    'errorId of the last refusal, which Pluggy''s support asks for; null: none was given';
COMMENT ON COLUMN pluggy_sync.parked_products.items IS
    'how many items had been refused when the product was parked';
COMMENT ON COLUMN pluggy_sync.parked_products.advice IS
    'one sentence for the operator, with endpoint and code';
COMMENT ON COLUMN pluggy_sync.parked_products.probe_at IS
    'when the next probe is due; the first one that is answered unparks the product';
COMMENT ON COLUMN pluggy_sync.parked_products.probed_at IS
    'when the last probe was sent; null: none yet';

ALTER TABLE pluggy_sync.product_sync
    ADD COLUMN parked_at timestamptz,
    ADD COLUMN failure_endpoint text;

COMMENT ON COLUMN pluggy_sync.product_sync.parked_at IS
    'since when this step is left out because its product is parked; null: it is not';
COMMENT ON COLUMN pluggy_sync.product_sync.failure_endpoint IS
    'the endpoint that the last failure is about, without ids; null: no failure, or none of a request';

CREATE INDEX product_sync_parked ON pluggy_sync.product_sync (product, item_id)
    WHERE parked_at IS NOT NULL;
