-- Whether an item has work. Only single statements in autocommit change this table.
CREATE TABLE pluggy_sync.item_sync (
    item_id uuid PRIMARY KEY,
    generation bigint NOT NULL,
    done_generation bigint NOT NULL DEFAULT 0,
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    run_at timestamptz
) WITH (fillfactor = 70);

COMMENT ON TABLE pluggy_sync.item_sync IS
    'Which items have work, how urgent it is and from when it is due';
COMMENT ON COLUMN pluggy_sync.item_sync.generation IS
    'Counts the events accepted for the item, and what else made it due';
COMMENT ON COLUMN pluggy_sync.item_sync.done_generation IS
    'The generation that the last settled sync had read';
COMMENT ON COLUMN pluggy_sync.item_sync.lane IS
    '0 live, 1 retry, 2 backfill, 3 audit; an item without work is in 3';
COMMENT ON COLUMN pluggy_sync.item_sync.run_at IS 'From when it is due; null: it has no work';

-- The only index beside the key, on no column that a bump of a due item changes: such updates stay HOT.
CREATE INDEX item_sync_due ON pluggy_sync.item_sync (lane, run_at) WHERE run_at IS NOT NULL;
