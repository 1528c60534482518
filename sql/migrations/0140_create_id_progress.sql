-- How many ids of an event's list have been asked for: a list of thousands takes longer than one claim,
-- and the next one goes on behind them. Written with the rows of each block, deleted with the settlement.
CREATE TABLE pluggy_sync.id_progress (
    event_row_id bigint PRIMARY KEY REFERENCES pluggy_sync.webhook_events (id) ON DELETE CASCADE,
    pending_seq bigint NOT NULL,
    ask_again_at timestamptz,
    done integer NOT NULL,
    came_back boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

COMMENT ON COLUMN pluggy_sync.id_progress.pending_seq IS
    'with ask_again_at that of the event: one that is pending anew is asked from the start of its list';
COMMENT ON COLUMN pluggy_sync.id_progress.done IS 'ids from the start of the list that are answered';
COMMENT ON COLUMN pluggy_sync.id_progress.came_back IS 'whether one of them was listed';
