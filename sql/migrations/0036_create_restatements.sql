-- A deleted row and the row that Pluggy created in its place: linked, never merged.
CREATE TABLE pluggy_sync.restatements (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    superseded_by uuid NOT NULL,
    account_id uuid NOT NULL,
    confidence numeric(3, 2) NOT NULL,
    reason text NOT NULL,
    run_id bigint NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, id),
    UNIQUE (item_id, superseded_by)
);

COMMENT ON TABLE pluggy_sync.restatements IS
    'Links from a deleted transaction to the one that replaced it';
COMMENT ON COLUMN pluggy_sync.restatements.id IS 'The tombstone';
COMMENT ON COLUMN pluggy_sync.restatements.superseded_by IS 'The row in its place';
COMMENT ON COLUMN pluggy_sync.restatements.confidence IS '0 to 1';

CREATE INDEX restatements_run ON pluggy_sync.restatements (run_id);
