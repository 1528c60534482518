-- What is left of an item that was purged: no personal data.
CREATE TABLE pluggy_sync.purge_receipts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id uuid NOT NULL,
    item_deleted_at timestamptz NOT NULL,
    erasure_ordered_at timestamptz,
    purge_begun_at timestamptz NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted jsonb NOT NULL,
    run_id bigint NOT NULL,
    last_event_id bigint NOT NULL
);

COMMENT ON TABLE pluggy_sync.purge_receipts IS 'Proof that an item was purged, without personal data';
COMMENT ON COLUMN pluggy_sync.purge_receipts.erasure_ordered_at IS
    'When a person ordered it (pluggy-sync items delete); null: the retention time was over';
COMMENT ON COLUMN pluggy_sync.purge_receipts.deleted IS
    'Rows deleted (of webhook_events: blanked), by table';
COMMENT ON COLUMN pluggy_sync.purge_receipts.last_event_id IS
    'Newest row of webhook_events of the item when it was purged';

CREATE INDEX purge_receipts_item ON pluggy_sync.purge_receipts (item_id);
