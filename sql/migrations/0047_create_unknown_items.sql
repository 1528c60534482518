-- Items that Pluggy lists for the application and that are not held, as of the last list.
CREATE TABLE pluggy_sync.unknown_items (
    item_id uuid PRIMARY KEY,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE pluggy_sync.unknown_items IS
    'Items that Pluggy''s daily list has and that are not held; ids alone';
COMMENT ON COLUMN pluggy_sync.unknown_items.found_at IS
    'When the list first had it while it was not held';
