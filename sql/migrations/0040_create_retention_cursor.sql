-- How far the deletion of expired runs is: it goes on behind run_id, and begins again once a day.
CREATE TABLE pluggy_sync.retention_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    run_id bigint NOT NULL DEFAULT 0,
    rests_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO pluggy_sync.retention_cursor DEFAULT VALUES;

COMMENT ON TABLE pluggy_sync.retention_cursor IS 'One row: how far the deletion of expired runs is';
COMMENT ON COLUMN pluggy_sync.retention_cursor.run_id IS 'The last run that was judged';
COMMENT ON COLUMN pluggy_sync.retention_cursor.rests_until IS 'When it begins again';
