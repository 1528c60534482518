-- Products that Pluggy refuses for several items while it answers the other requests. A parked product is
-- not read until one of its probes is answered; all other products go on.
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
    'Products that Pluggy refuses as a whole: parked alone, probed once an hour; no row: not parked';
COMMENT ON COLUMN pluggy_sync.parked_products.product IS
    'Our table name of the product, as in product_sync.product';
COMMENT ON COLUMN pluggy_sync.parked_products.endpoint IS
    'The endpoint that refuses, without ids, such as GET /loans';
COMMENT ON COLUMN pluggy_sync.parked_products.failure_code IS
    'HTTP status and Pluggy''s codeDescription, such as 403:FORBIDDEN or 410:no_code';
COMMENT ON COLUMN pluggy_sync.parked_products.error_id IS
    'errorId of the last refusal, which Pluggy''s support asks for; null: none was given';
COMMENT ON COLUMN pluggy_sync.parked_products.items IS
    'How many items had been refused when the product was parked';
COMMENT ON COLUMN pluggy_sync.parked_products.advice IS
    'One sentence for the operator, with endpoint and code';
COMMENT ON COLUMN pluggy_sync.parked_products.probe_at IS
    'When the next probe is due; the first one that is answered ends the parking';
COMMENT ON COLUMN pluggy_sync.parked_products.probed_at IS
    'When the last probe was sent; null: none yet';
