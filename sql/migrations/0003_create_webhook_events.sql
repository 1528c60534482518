-- The record of everything that was acknowledged. The body is kept raw, because jsonb refuses some
-- bodies that are valid JSON (U+0000, 1e200000); only validated ids stand beside it.
CREATE TABLE pluggy_sync.webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL,
    body_sha256 bytea NOT NULL,
    event text NOT NULL,
    item_id uuid,
    account_id uuid,
    transaction_ids uuid[],
    created_at_from timestamptz,
    expected_rows integer,
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    state text NOT NULL CHECK (state IN ('pending', 'walking', 'applied', 'dead', 'ignored')),
    reason text,
    error_id text,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    pending_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    ask_again_at timestamptz,
    settled_at timestamptz,
    run_id bigint,
    UNIQUE (event_id, body_sha256)
);

COMMENT ON COLUMN pluggy_sync.webhook_events.pending_since IS
    'accepted_at, or when a redelivery or a requeue set it pending again; what steps are judged by';

CREATE INDEX webhook_events_open ON pluggy_sync.webhook_events (item_id, id)
    WHERE state IN ('pending', 'walking');
CREATE INDEX webhook_events_dead ON pluggy_sync.webhook_events (settled_at) WHERE state = 'dead';
CREATE INDEX webhook_events_accepted ON pluggy_sync.webhook_events (accepted_at);
CREATE INDEX webhook_events_item ON pluggy_sync.webhook_events (item_id, id);
