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
CREATE INDEX restatements_run ON pluggy_sync.restatements (run_id);

COMMENT ON COLUMN pluggy_sync.restatements.id IS 'the tombstone';

-- Up to which run deletions have been looked at.
CREATE TABLE pluggy_sync.restatement_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL DEFAULT 0
);
INSERT INTO pluggy_sync.restatement_cursor DEFAULT VALUES;

CREATE INDEX transactions_tombstones ON pluggy.transactions (item_id, account_id, deleted_at)
    WHERE deleted_at IS NOT NULL;
