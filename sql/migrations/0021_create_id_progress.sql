-- How many ids of an event's list have been asked for: thousands take longer than one claim, and the next
-- claim goes on behind them. Written with the rows of each block, deleted when the event is settled.
CREATE TABLE pluggy_sync.id_progress (
    event_row_id bigint PRIMARY KEY REFERENCES pluggy_sync.webhook_events (id) ON DELETE CASCADE,
    pending_seq bigint NOT NULL,
    ask_again_at timestamptz,
    done integer NOT NULL,
    came_back boolean NOT NULL DEFAULT false,
    marks_all boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

COMMENT ON TABLE pluggy_sync.id_progress IS 'Progress through the list of ids that an open event names';
COMMENT ON COLUMN pluggy_sync.id_progress.pending_seq IS
    'With ask_again_at that of the event: an event that is pending again is asked from the start of its list';
COMMENT ON COLUMN pluggy_sync.id_progress.done IS 'Ids from the start of the list that are answered';
COMMENT ON COLUMN pluggy_sync.id_progress.came_back IS 'Whether one of them was listed';
COMMENT ON COLUMN pluggy_sync.id_progress.marks_all IS
    'Whether rows that the event names as deleted are only flagged, because all together exceed the limit of'
    ' the account; the decision holds for every block of the list';
