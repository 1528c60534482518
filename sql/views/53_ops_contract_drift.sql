CREATE VIEW pluggy_ops.contract_drift AS
SELECT entity, CASE WHEN value = '' THEN 'field' ELSE 'value' END AS kind, path,
       nullif(value, '') AS value, first_seen_at, last_seen_at, days
FROM pluggy_sync.contract_drift;

COMMENT ON VIEW pluggy_ops.contract_drift IS
    'Fields and values in Pluggy''s answers that this release does not know. Nothing is lost: '
    'they are in payload';
COMMENT ON COLUMN pluggy_ops.contract_drift.entity IS 'Kind of the row that has it';
COMMENT ON COLUMN pluggy_ops.contract_drift.kind IS
    'field (an unknown one) or value (a new one of a known field)';
COMMENT ON COLUMN pluggy_ops.contract_drift.path IS 'Path within the row';
COMMENT ON COLUMN pluggy_ops.contract_drift.value IS
    'The new value; null: an unknown field, whose values are not kept';
COMMENT ON COLUMN pluggy_ops.contract_drift.first_seen_at IS 'When it was first seen, UTC';
COMMENT ON COLUMN pluggy_ops.contract_drift.last_seen_at IS
    'When it was last seen, UTC, at most once a day';
COMMENT ON COLUMN pluggy_ops.contract_drift.days IS 'On how many days it was seen';
