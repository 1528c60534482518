CREATE VIEW pluggy_live.items AS
SELECT id, connector_id, connector_name, connector_is_open_finance, status, execution_status, error_code,
       client_user_id, products, source_created_at, source_updated_at, last_updated_at, next_auto_sync_at,
       consent_expires_at, has_resources_pending_authorization, inner_item_id, payload, run_id,
       first_seen_at, changed_at, ended_at
FROM pluggy.items
WHERE deleted_at IS NULL OR ended_at IS NOT NULL;

COMMENT ON VIEW pluggy_live.items IS
    'Stored items: a connection of one person to one bank each';
COMMENT ON COLUMN pluggy_live.items.id IS 'Pluggy''s id of the item; item_id of all that it owns';
COMMENT ON COLUMN pluggy_live.items.connector_id IS
    'The bank or broker (connectors.id); null: not sent';
COMMENT ON COLUMN pluggy_live.items.connector_name IS 'Name of the bank or broker; null: not sent';
COMMENT ON COLUMN pluggy_live.items.connector_is_open_finance IS
    'Whether it is regulated open finance, with consents; null: not sent';
COMMENT ON COLUMN pluggy_live.items.status IS
    'UPDATED, UPDATING, LOGIN_ERROR, OUTDATED, WAITING_USER_INPUT, WAITING_USER_ACTION, ... by '
    'Pluggy';
COMMENT ON COLUMN pluggy_live.items.execution_status IS
    'How the last collection ended, such as SUCCESS, PARTIAL_SUCCESS or '
    'USER_AUTHORIZATION_REVOKED; null: not sent';
COMMENT ON COLUMN pluggy_live.items.error_code IS
    'Code of the last collection''s error; null: none';
COMMENT ON COLUMN pluggy_live.items.client_user_id IS
    'Your own id of the person, personal; null: none was given';
COMMENT ON COLUMN pluggy_live.items.products IS
    'Names of Pluggy''s products that the item was connected for; null: all of its connector';
COMMENT ON COLUMN pluggy_live.items.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.items.source_updated_at IS 'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.items.last_updated_at IS
    'When Pluggy last collected from the bank, UTC; null: never';
COMMENT ON COLUMN pluggy_live.items.next_auto_sync_at IS
    'When Pluggy has promised to collect next, UTC; null: Pluggy does not';
COMMENT ON COLUMN pluggy_live.items.consent_expires_at IS
    'When the consent ends, UTC; null: it has no end, or not sent';
COMMENT ON COLUMN pluggy_live.items.has_resources_pending_authorization IS
    'Whether accounts or contracts wait at the bank for another approval, such as that of a second '
    'holder; null: no open finance, or not read yet';
COMMENT ON COLUMN pluggy_live.items.inner_item_id IS
    'Of items of MeuPluggy: the item at MeuPluggy that rows may name as theirs; null: none has';
COMMENT ON COLUMN pluggy_live.items.payload IS
    'The row as Pluggy last sent it, unknown fields included, without the connector';
COMMENT ON COLUMN pluggy_live.items.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.items.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.items.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.items.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
