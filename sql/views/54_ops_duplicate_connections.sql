CREATE VIEW pluggy_ops.duplicate_connections AS
SELECT connector_id, max(connector_name) AS connector_name, count(*) AS items,
       array_agg(id ORDER BY first_seen_at, id) AS item_ids, min(first_seen_at) AS first_seen_at,
       max(last_updated_at) AS last_updated_at
FROM pluggy.items
WHERE deleted_at IS NULL AND client_user_id <> ''
GROUP BY connector_id, client_user_id
HAVING count(*) > 1;

COMMENT ON VIEW pluggy_ops.duplicate_connections IS
    'Users who have connected one bank more than once: the rows of these items count twice. The '
    'user''s id is personal and not shown';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.items IS
    'Items that the same user has at the bank';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.item_ids IS 'These items, the oldest first';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.first_seen_at IS
    'When the oldest was first stored here, UTC';
COMMENT ON COLUMN pluggy_ops.duplicate_connections.last_updated_at IS
    'When Pluggy last collected any of them, UTC; null: never';
