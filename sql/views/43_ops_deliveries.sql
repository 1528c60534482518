CREATE VIEW pluggy_ops.deliveries AS
SELECT minute, nullif(event, '') AS event, answer, deliveries
FROM pluggy_sync.delivery_counts;

COMMENT ON VIEW pluggy_ops.deliveries IS
    'Deliveries to the receivers, one row per minute, event and answer. They are counted in '
    'memory and written every few seconds: a killed receiver loses the last ones';
COMMENT ON COLUMN pluggy_ops.deliveries.minute IS
    'Start of the minute, by the receiver''s clock, UTC';
COMMENT ON COLUMN pluggy_ops.deliveries.event IS
    'Name of the event; null: refused before it was read';
COMMENT ON COLUMN pluggy_ops.deliveries.answer IS
    'accepted, duplicate, kept; or why it was refused, such as unauthorized (401)';
COMMENT ON COLUMN pluggy_ops.deliveries.deliveries IS 'How many';
