CREATE VIEW pluggy_live.identities AS
SELECT item_id, id, full_name, company_name, document, document_type, tax_number, birth_date,
       job_title, investor_profile, source_created_at, source_updated_at, payload, run_id,
       first_seen_at, changed_at,
       i.ended_at
FROM pluggy.identities
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i ON i.of_item = identities.item_id
WHERE deleted_at IS NULL;

COMMENT ON VIEW pluggy_live.identities IS
    'Data that banks report about the person or company behind an item; personal';
COMMENT ON COLUMN pluggy_live.identities.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.identities.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.identities.full_name IS
    'Name of the person, personal; null: a company, or not sent';
COMMENT ON COLUMN pluggy_live.identities.company_name IS 'Name of the company; null: a person';
COMMENT ON COLUMN pluggy_live.identities.document IS
    'CPF or CNPJ as the bank writes it, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.document_type IS 'CPF, CNPJ, ...; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.tax_number IS
    'CPF or CNPJ of the holder, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.birth_date IS 'Day of birth, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.job_title IS 'Occupation, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.investor_profile IS
    'Conservative, Moderate, Aggressive; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.source_updated_at IS
    'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.identities.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.identities.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.identities.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.identities.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.identities.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
