CREATE VIEW pluggy_live.consents AS
SELECT item_id, id, products, permissions, expires_at, revoked_at, source_created_at, payload,
       run_id, first_seen_at, changed_at,
       i.ended_at
FROM pluggy.consents
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i ON i.of_item = consents.item_id
WHERE deleted_at IS NULL;

COMMENT ON VIEW pluggy_live.consents IS 'Consents of open finance items';
COMMENT ON COLUMN pluggy_live.consents.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.consents.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.consents.products IS 'Names of Pluggy''s products; null: not sent';
COMMENT ON COLUMN pluggy_live.consents.permissions IS
    'Permissions that the person gave, by open finance''s names; null: not sent';
COMMENT ON COLUMN pluggy_live.consents.expires_at IS
    'When the consent ends, UTC; null: it has no end';
COMMENT ON COLUMN pluggy_live.consents.revoked_at IS
    'When the person took it back, UTC; null: it stands';
COMMENT ON COLUMN pluggy_live.consents.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.consents.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.consents.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.consents.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.consents.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.consents.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
