-- A purge under way: what it has deleted so far, and when it may look at Pluggy again.
CREATE TABLE pluggy_sync.purges (
    item_id uuid PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    failure_code text,
    error_id text
);

-- What is left of an item that was purged: no personal data.
CREATE TABLE pluggy_sync.purge_receipts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id uuid NOT NULL,
    item_deleted_at timestamptz NOT NULL,
    purge_begun_at timestamptz NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted jsonb NOT NULL,
    run_id bigint NOT NULL,
    last_event_id bigint NOT NULL
);
CREATE INDEX purge_receipts_item ON pluggy_sync.purge_receipts (item_id);

COMMENT ON COLUMN pluggy_sync.purge_receipts.deleted IS 'rows deleted (of webhook_events: blanked) by table';

CREATE INDEX items_deleted ON pluggy.items (deleted_at) WHERE deleted_at IS NOT NULL;
