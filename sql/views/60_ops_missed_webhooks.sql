CREATE VIEW pluggy_ops.missed_webhooks AS
SELECT m.item_id, i.connector_id, i.connector_name, m.source_updated_at AS collected_at, m.found_at,
       CASE WHEN m.judged_at IS NULL THEN 'waiting' ELSE 'proven' END AS state, m.judged_at
FROM pluggy_sync.missed_webhooks m
LEFT JOIN pluggy.items i ON i.id = m.item_id
WHERE m.announced_at IS NULL;

COMMENT ON VIEW pluggy_ops.missed_webhooks IS 'Collections that no webhook announced';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.collected_at IS
    'When Pluggy made the collection that no webhook announced, by its clock, UTC';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.found_at IS 'When it was found, UTC';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.state IS
    'waiting: the webhook may still come; proven: three hours have passed';
COMMENT ON COLUMN pluggy_ops.missed_webhooks.judged_at IS
    'When that was judged, UTC; null: not yet';
