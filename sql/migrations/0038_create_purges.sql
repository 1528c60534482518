-- Purges under way: what each has deleted so far, and when it may ask Pluggy again.
CREATE TABLE pluggy_sync.purges (
    item_id uuid PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    failure_code text,
    error_id text
);

COMMENT ON TABLE pluggy_sync.purges IS 'Purges of deleted items under way';
COMMENT ON COLUMN pluggy_sync.purges.deleted IS
    'Rows deleted so far (of webhook_events: blanked), by table';
COMMENT ON COLUMN pluggy_sync.purges.next_try_at IS 'When it may go on; null: now';
