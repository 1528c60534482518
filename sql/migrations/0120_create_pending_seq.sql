-- Order, not clocks, says what answers an event: whenever an event becomes pending it draws its place in
-- one sequence, and so does each plan once it has read its events. A read answers the events whose place
-- is before its own, however Postgres's clock is set meanwhile.
CREATE SEQUENCE pluggy_sync.pending_seq;

-- The default apart from the column: events that are settled need no place, and no rewrite of the table.
ALTER TABLE pluggy_sync.webhook_events ADD COLUMN pending_seq bigint;
ALTER TABLE pluggy_sync.webhook_events
    ALTER COLUMN pending_seq SET DEFAULT nextval('pluggy_sync.pending_seq');
UPDATE pluggy_sync.webhook_events SET pending_seq = nextval('pluggy_sync.pending_seq')
WHERE state IN ('pending', 'walking');

-- A trigger, so that no way back to pending can be forgotten: redelivery, requeue, a halt, a release
-- that does not know the column, a person's hand.
CREATE FUNCTION pluggy_sync.draw_pending_seq() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.pending_seq := nextval('pluggy_sync.pending_seq');
    RETURN new;
END $$;
CREATE TRIGGER webhook_events_draw_pending_seq BEFORE UPDATE OF state ON pluggy_sync.webhook_events
    FOR EACH ROW WHEN (new.state = 'pending' AND old.state NOT IN ('pending', 'walking'))
    EXECUTE FUNCTION pluggy_sync.draw_pending_seq();

ALTER TABLE pluggy_sync.product_sync
    ADD COLUMN read_seq bigint, ADD COLUMN walked_seq bigint, ADD COLUMN recent_seq bigint,
    ADD COLUMN dead_seq bigint;
ALTER TABLE pluggy_sync.account_walks ADD COLUMN read_seq bigint;
ALTER TABLE pluggy_sync.reference_data_sync ADD COLUMN read_seq bigint;

COMMENT ON COLUMN pluggy_sync.webhook_events.pending_seq IS
    'place in the order of all events and reads, drawn anew whenever the event becomes pending';
COMMENT ON COLUMN pluggy_sync.webhook_events.pending_since IS
    'accepted_at, or when a redelivery or a requeue set it pending again; its age is counted from here';
COMMENT ON COLUMN pluggy_sync.product_sync.read_seq IS
    'place of the last complete read: events of a lower pending_seq are answered by it';
COMMENT ON COLUMN pluggy_sync.product_sync.walked_seq IS 'the same of the last complete walk';
COMMENT ON COLUMN pluggy_sync.product_sync.recent_seq IS 'the same of the last read of the last 14 days';
COMMENT ON COLUMN pluggy_sync.product_sync.dead_seq IS
    'place of the try that the step died of: an event of a higher pending_seq makes it due again';
COMMENT ON COLUMN pluggy_sync.product_sync.watermark IS
    'Pluggy''s clock (Date header) when the newest complete delta or walk started';
