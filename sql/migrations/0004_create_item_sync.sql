-- Whether an item has work. generation counts what was told about it, done_generation what the sync
-- that settled last had seen. Lanes: 0 live, 1 retry, 2 backfill, 3 audit; an idle item rests in 3.
CREATE TABLE pluggy_sync.item_sync (
    item_id uuid PRIMARY KEY,
    generation bigint NOT NULL,
    done_generation bigint NOT NULL DEFAULT 0,
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    run_at timestamptz
) WITH (fillfactor = 70);

-- The only index beside the key, and on no column that a bump of a due item changes: bumps stay HOT.
CREATE INDEX item_sync_due ON pluggy_sync.item_sync (lane, run_at) WHERE run_at IS NOT NULL;

-- Apart from item_sync, so that the heartbeat of a running sync never blocks a receiver's bump.
CREATE TABLE pluggy_sync.item_leases (
    item_id uuid PRIMARY KEY,
    token uuid,
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 70);
