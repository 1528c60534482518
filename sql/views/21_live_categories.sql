CREATE VIEW pluggy_live.categories AS
SELECT id, description, description_translated, parent_id, parent_description, payload, run_id,
       first_seen_at, changed_at
FROM pluggy.categories
WHERE deleted_at IS NULL;

COMMENT ON VIEW pluggy_live.categories IS 'Pluggy''s tree of transaction categories';
COMMENT ON COLUMN pluggy_live.categories.id IS
    'Pluggy''s number of the category, two digits a level; transactions.category_id';
COMMENT ON COLUMN pluggy_live.categories.description IS 'Name of the category in English';
COMMENT ON COLUMN pluggy_live.categories.description_translated IS
    'Name of the category in Portuguese; null: not sent';
COMMENT ON COLUMN pluggy_live.categories.parent_id IS 'The category above; null: a root';
COMMENT ON COLUMN pluggy_live.categories.parent_description IS
    'Name of the category above; null: a root';
COMMENT ON COLUMN pluggy_live.categories.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.categories.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.categories.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.categories.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
