-- Every write to schema pluggy belongs to a run. seq is taken under a transaction lock when the run is
-- closed, so that it follows commit order: the feed for the company's own code polls seq > cursor.
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
    seen integer NOT NULL DEFAULT 0,
    inserted integer NOT NULL DEFAULT 0,
    changed integer NOT NULL DEFAULT 0,
    deleted integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    older_skipped integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    api_requests integer NOT NULL DEFAULT 0
);
CREATE SEQUENCE pluggy_sync.run_seq;
CREATE INDEX runs_unclosed ON pluggy_sync.runs (item_id) WHERE finished_at IS NULL;
CREATE INDEX runs_item ON pluggy_sync.runs (item_id, id);
