-- Every write to schema pluggy belongs to a run. seq is drawn under a transaction lock when the run is
-- closed, so that it follows the order of commits: consumers poll seq > their cursor.
CREATE SEQUENCE pluggy_sync.run_seq;

CREATE TABLE pluggy_sync.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq bigint UNIQUE,
    item_id uuid,
    kind text NOT NULL,
    event_ids bigint[] NOT NULL DEFAULT '{}',
    plan jsonb,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    outcome text CHECK (outcome IN ('done', 'partial', 'failed', 'released', 'lost')),
    failure_code text,
    error_id text,
    seen integer NOT NULL DEFAULT 0,
    inserted integer NOT NULL DEFAULT 0,
    changed integer NOT NULL DEFAULT 0,
    deleted integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    older_skipped integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    api_requests integer NOT NULL DEFAULT 0
);

COMMENT ON TABLE pluggy_sync.runs IS 'What wrote to schema pluggy, when, and how many rows';
COMMENT ON COLUMN pluggy_sync.runs.seq IS 'Place in the order of commits; null: not closed yet';
COMMENT ON COLUMN pluggy_sync.runs.item_id IS
    'Null: it belongs to no item, such as a read of connectors';
COMMENT ON COLUMN pluggy_sync.runs.event_ids IS 'Ids of webhook_events that it was for';
COMMENT ON COLUMN pluggy_sync.runs.outcome IS
    'lost: its lease lapsed; released: it was handed back early, such as in a deploy; null: under way';
COMMENT ON COLUMN pluggy_sync.runs.failure_code IS 'Of its last failure; null: none';
COMMENT ON COLUMN pluggy_sync.runs.error_id IS
    'errorId of its last failure, or the x-request-id of an odd answer, which Pluggy''s support asks for;'
    ' null: none';
COMMENT ON COLUMN pluggy_sync.runs.older_skipped IS 'Rows that were older than what we hold';
COMMENT ON COLUMN pluggy_sync.runs.rejected IS 'Rows that could not be read and are in rejected_rows';

CREATE INDEX runs_unclosed ON pluggy_sync.runs (item_id) WHERE finished_at IS NULL;
CREATE INDEX runs_item ON pluggy_sync.runs (item_id, id);
