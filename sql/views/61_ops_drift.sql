CREATE VIEW pluggy_ops.drift AS
SELECT d.item_id, i.connector_id, i.connector_name, d.product,
       nullif(d.scope_id, '00000000-0000-0000-0000-000000000000') AS scope_id,
       d.inserted, d.changed, d.deleted, d.found_at, d.run_id
FROM pluggy_sync.drift d
LEFT JOIN pluggy.items i ON i.id = d.item_id;

COMMENT ON VIEW pluggy_ops.drift IS
    'Differences that a verify found and repaired, one row per run, product and scope';
COMMENT ON COLUMN pluggy_ops.drift.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.drift.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.drift.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.drift.product IS
    'Our table name of what is read, such as transactions';
COMMENT ON COLUMN pluggy_ops.drift.scope_id IS
    'The account or investment that was read; null: the whole item';
COMMENT ON COLUMN pluggy_ops.drift.inserted IS 'Rows that were new';
COMMENT ON COLUMN pluggy_ops.drift.changed IS 'Rows that had changed';
COMMENT ON COLUMN pluggy_ops.drift.deleted IS 'Rows that became tombstones';
COMMENT ON COLUMN pluggy_ops.drift.found_at IS 'When it was found, UTC';
COMMENT ON COLUMN pluggy_ops.drift.run_id IS 'The run that repaired it (runs.id)';
