-- Everything that was acknowledged, and the events of our own (sync/...). The body is kept as bytes, because
-- jsonb refuses some bodies that are valid JSON (U+0000, 1e200000); beside it are only validated ids.
CREATE SEQUENCE pluggy_sync.pending_seq;

CREATE TABLE pluggy_sync.webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL,
    body_sha256 bytea NOT NULL,
    event text NOT NULL,
    item_id uuid,
    account_id uuid,
    connector_id integer,
    transaction_ids uuid[],
    created_at_from timestamptz,
    expected_rows integer,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    state text NOT NULL CHECK (state IN ('pending', 'walking', 'applied', 'dead', 'ignored')),
    reason text,
    error_id text,
    pending_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    pending_seq bigint DEFAULT nextval('pluggy_sync.pending_seq'),
    ask_again_at timestamptz,
    confirming text,
    confirming_since timestamptz,
    settled_at timestamptz,
    visible_at timestamptz,
    run_id bigint,
    UNIQUE (event_id, body_sha256)
);

COMMENT ON TABLE pluggy_sync.webhook_events IS
    'Accepted webhook events and the events of our own, each with what became of it';
COMMENT ON COLUMN pluggy_sync.webhook_events.event_id IS
    'eventId of the delivery, or a random id where it has none; with body_sha256 the key of an event';
COMMENT ON COLUMN pluggy_sync.webhook_events.connector_id IS
    'The connector of a connector/status_updated, which has no item; null: another event';
COMMENT ON COLUMN pluggy_sync.webhook_events.created_at_from IS
    'transactionsCreatedAtFrom: its rows were created at or after this; null: it does not say';
COMMENT ON COLUMN pluggy_sync.webhook_events.expected_rows IS
    'How many rows the event is about: transactionsCount, or the number of transactionIds, unreadable ones'
    ' included; null: it does not say';
COMMENT ON COLUMN pluggy_sync.webhook_events.received_at IS 'The receiver''s clock; for display only';
COMMENT ON COLUMN pluggy_sync.webhook_events.accepted_at IS
    'Postgres''s clock; what is judged by time uses it';
COMMENT ON COLUMN pluggy_sync.webhook_events.lane IS '0 live, 1 retry, 2 backfill, 3 audit';
COMMENT ON COLUMN pluggy_sync.webhook_events.state IS
    'walking: its account walks are under way; dead: given up, a dead letter';
COMMENT ON COLUMN pluggy_sync.webhook_events.pending_since IS
    'accepted_at, or when a redelivery or a requeue made it pending again; its age counts from here';
COMMENT ON COLUMN pluggy_sync.webhook_events.pending_seq IS
    'Its place in the order of all events and reads, drawn again whenever it becomes pending';
COMMENT ON COLUMN pluggy_sync.webhook_events.ask_again_at IS
    'When its question is asked once more, after an answer that is not final; null: it is not';
COMMENT ON COLUMN pluggy_sync.webhook_events.confirming IS
    'What is read again because its answer contradicted the event: a product, or product/account. Null: none';
COMMENT ON COLUMN pluggy_sync.webhook_events.confirming_since IS
    'The first answer that contradicted an event about it: it is read again 5 s, 30 s, 2 min and 5 min later';
COMMENT ON COLUMN pluggy_sync.webhook_events.visible_at IS
    'When the last row that was written for it was committed, or a moment later; of an event that waited for'
    ' walks: when it was settled. Null: no row changed';
COMMENT ON COLUMN pluggy_sync.webhook_events.run_id IS
    'The run that settled it; null: not settled, or no run';

CREATE INDEX webhook_events_open ON pluggy_sync.webhook_events (item_id, id)
    WHERE state IN ('pending', 'walking');
CREATE INDEX webhook_events_dead ON pluggy_sync.webhook_events (settled_at) WHERE state = 'dead';
CREATE INDEX webhook_events_kept ON pluggy_sync.webhook_events (accepted_at)
    WHERE state = 'ignored' AND reason IN ('unknown_event', 'unreadable_item_id', 'unreadable_connector_id');
CREATE INDEX webhook_events_accepted ON pluggy_sync.webhook_events (accepted_at);
-- Each event of an item is in one of two indexes, this and the open ones: accepting it writes one entry, and
-- so does settling it. A statement that wants all of them names both groups of states.
CREATE INDEX webhook_events_settled ON pluggy_sync.webhook_events (item_id, id)
    WHERE state IN ('applied', 'dead', 'ignored');

-- The order of events decides what a read answers, not clocks: an event draws its place in one sequence
-- whenever it becomes pending, and a plan draws its own once it has read its events. A read answers the
-- events before it. A trigger, so that no way back to pending is forgotten: redelivery, requeue, a halt, a
-- statement by hand.
CREATE FUNCTION pluggy_sync.draw_pending_seq() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.pending_seq := nextval('pluggy_sync.pending_seq');
    RETURN new;
END $$;

CREATE TRIGGER webhook_events_draw_pending_seq BEFORE UPDATE OF state ON pluggy_sync.webhook_events
    FOR EACH ROW WHEN (new.state = 'pending' AND old.state NOT IN ('pending', 'walking'))
    EXECUTE FUNCTION pluggy_sync.draw_pending_seq();
