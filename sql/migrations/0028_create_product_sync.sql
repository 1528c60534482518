-- How far each step of an item is: one row per product and scope. The scope is the account or the investment
-- that Pluggy lists the product by, or the whole item. Times are by our clock unless said otherwise.
CREATE TABLE pluggy_sync.product_sync (
    item_id uuid NOT NULL,
    product text NOT NULL,
    scope_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The last complete read.
    first_read_at timestamptz,
    complete_read_at timestamptz,
    read_seq bigint,
    source_updated_at timestamptz,
    fingerprint text,
    incomplete_reason text,
    -- Transactions: how far their reads reach.
    watermark timestamptz,
    read_since timestamptz,
    read_up_to timestamptz,
    walked_at timestamptz,
    walked_seq bigint,
    unreadable_walk_at timestamptz,
    recent_at timestamptz,
    recent_seq bigint,
    verified_at timestamptz,
    -- What is to be read again.
    narrow_until timestamptz,
    wide_by timestamptz,
    wide_ordered boolean NOT NULL DEFAULT false,
    awaits_rows boolean NOT NULL DEFAULT false,
    confirm_at timestamptz,
    -- Failures, deferrals and parking.
    attempts integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    failed_at timestamptz,
    next_try_at timestamptz,
    dead_at timestamptz,
    dead_seq bigint,
    deferred_since timestamptz,
    parked_at timestamptz,
    failure_class text,
    failure_code text,
    failure_endpoint text,
    error_id text,
    stale_reason text,
    PRIMARY KEY (item_id, product, scope_id)
) WITH (fillfactor = 80);

COMMENT ON TABLE pluggy_sync.product_sync IS
    'How far the reading of each product of an item is, by account or investment where Pluggy lists it so';
COMMENT ON COLUMN pluggy_sync.product_sync.product IS 'Our table name of the product';
COMMENT ON COLUMN pluggy_sync.product_sync.scope_id IS
    'The account or the investment that Pluggy lists by; the nil UUID: the whole item';
COMMENT ON COLUMN pluggy_sync.product_sync.first_read_at IS
    'When the first complete read started; null: there was none';
COMMENT ON COLUMN pluggy_sync.product_sync.complete_read_at IS
    'When the last complete read started; null: there was none';
COMMENT ON COLUMN pluggy_sync.product_sync.read_seq IS
    'Place of the last complete read: it answers events of a lower pending_seq';
COMMENT ON COLUMN pluggy_sync.product_sync.source_updated_at IS
    'lastUpdatedAt of the product at Pluggy when the last complete read started';
COMMENT ON COLUMN pluggy_sync.product_sync.fingerprint IS
    'A hash of the investment when its transactions were last read; null: another product';
COMMENT ON COLUMN pluggy_sync.product_sync.watermark IS
    'Pluggy''s clock (Date header) when the newest complete walk or delta of the whole overlap started';
COMMENT ON COLUMN pluggy_sync.product_sync.read_since IS
    'createdAt from which the read of complete_read_at listed rows; null: all of them';
COMMENT ON COLUMN pluggy_sync.product_sync.read_up_to IS
    'Pluggy''s clock when the newest complete read of transactions started, narrow deltas included';
COMMENT ON COLUMN pluggy_sync.product_sync.walked_at IS
    'When the last complete walk (all pages) started';
COMMENT ON COLUMN pluggy_sync.product_sync.walked_seq IS
    'Place of the last complete walk, like read_seq';
COMMENT ON COLUMN pluggy_sync.product_sync.unreadable_walk_at IS
    'When a walk was last ordered because an event named rows by unreadable ids; the next one waits a day';
COMMENT ON COLUMN pluggy_sync.product_sync.incomplete_reason IS
    'Why the list of the last complete read may have more rows than were read; null: it has none';
COMMENT ON COLUMN pluggy_sync.product_sync.recent_at IS
    'When the last read of the last 14 days started, or a walk, which covers them';
COMMENT ON COLUMN pluggy_sync.product_sync.recent_seq IS
    'Place of the last read of the last 14 days, like read_seq';
COMMENT ON COLUMN pluggy_sync.product_sync.verified_at IS
    'When the last read started that covers every row and proves which are missing';
COMMENT ON COLUMN pluggy_sync.product_sync.narrow_until IS
    'Until then a delta may start after the overlap, which was long and has just been read';
COMMENT ON COLUMN pluggy_sync.product_sync.wide_by IS
    'When the whole overlap is read again, with or without an event; null: with the next delta';
COMMENT ON COLUMN pluggy_sync.product_sync.wide_ordered IS 'Whether our own event for wide_by is stored';
COMMENT ON COLUMN pluggy_sync.product_sync.awaits_rows IS
    'Whether the list has been empty since its first read and is still to be read again';
COMMENT ON COLUMN pluggy_sync.product_sync.confirm_at IS
    'When an empty first list is read again; null: it is not, or our own event for it is stored';
COMMENT ON COLUMN pluggy_sync.product_sync.attempts IS 'Failed tries in a row; deferrals do not count';
COMMENT ON COLUMN pluggy_sync.product_sync.next_try_at IS
    'End of its back-off; null: due with the next event';
COMMENT ON COLUMN pluggy_sync.product_sync.dead_seq IS
    'Place of the try after which it was given up: an event of a higher pending_seq makes it due again';
COMMENT ON COLUMN pluggy_sync.product_sync.deferred_since IS
    'Since when its answers have proven nothing; null: they do';
COMMENT ON COLUMN pluggy_sync.product_sync.parked_at IS
    'Since when it is left out because its product is parked; null: it is not';
COMMENT ON COLUMN pluggy_sync.product_sync.failure_endpoint IS
    'The endpoint of the last failure, without ids; null: no failure, or none of a request';
COMMENT ON COLUMN pluggy_sync.product_sync.error_id IS
    'Pluggy''s errorId or x-request-id of the last failure; null: no failure, or no answer';

CREATE INDEX product_sync_failed ON pluggy_sync.product_sync (failed_at) WHERE failed_at IS NOT NULL;
CREATE INDEX product_sync_parked ON pluggy_sync.product_sync (product, item_id)
    WHERE parked_at IS NOT NULL;
CREATE INDEX product_sync_not_well ON pluggy_sync.product_sync (item_id)
    WHERE dead_at IS NOT NULL OR parked_at IS NOT NULL OR stale_reason IS NOT NULL
       OR incomplete_reason IS NOT NULL OR attempts > 0;
CREATE INDEX product_sync_wide ON pluggy_sync.product_sync (wide_by)
    WHERE wide_by IS NOT NULL AND NOT wide_ordered;
CREATE INDEX product_sync_confirm ON pluggy_sync.product_sync (confirm_at) WHERE confirm_at IS NOT NULL;
