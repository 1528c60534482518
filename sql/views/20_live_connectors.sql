CREATE VIEW pluggy_live.connectors AS
SELECT id, name, type, country, institution_url, image_url, primary_color, has_mfa, oauth,
       is_open_finance, is_sandbox, health_status, health_stage, products, source_created_at,
       source_updated_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.connectors
WHERE deleted_at IS NULL;

COMMENT ON VIEW pluggy_live.connectors IS
    'Banks and brokers that can be connected, as Pluggy lists them';
COMMENT ON COLUMN pluggy_live.connectors.id IS
    'Pluggy''s number of the bank or broker; items.connector_id';
COMMENT ON COLUMN pluggy_live.connectors.name IS 'Name, as the bank shows it; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.type IS
    'PERSONAL_BANK, BUSINESS_BANK, INVESTMENT, ... by Pluggy';
COMMENT ON COLUMN pluggy_live.connectors.country IS 'ISO 3166 code; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.institution_url IS 'Website of the bank; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.image_url IS 'Logo; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.primary_color IS
    'Colour of the bank, hexadecimal without #; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.has_mfa IS
    'Whether a login asks for a second factor; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.oauth IS
    'Whether the person logs in at the bank''s own page; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.is_open_finance IS
    'Whether it is regulated open finance, with consents; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.is_sandbox IS
    'Whether it is one of Pluggy''s for trying out; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.health_status IS
    'ONLINE, UNSTABLE or OFFLINE by Pluggy; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.health_stage IS 'BETA, ...; null: a finished connector';
COMMENT ON COLUMN pluggy_live.connectors.products IS 'Names of Pluggy''s products; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.source_updated_at IS
    'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.connectors.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.connectors.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.connectors.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.connectors.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
