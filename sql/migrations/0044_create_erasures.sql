-- Items that a person has ordered to be erased, until it is done.
CREATE TABLE pluggy_sync.erasures (
    item_id uuid PRIMARY KEY,
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE pluggy_sync.erasures IS
    'Items to erase at once, whatever PURGE_AFTER_DAYS and KEEP_ENDED say';
COMMENT ON COLUMN pluggy_sync.erasures.ordered_at IS 'When pluggy-sync items delete was run';
