-- What Pluggy's answers hold that this release does not know. Nothing is lost: it is in `payload`.
CREATE VIEW pluggy_ops.contract_drift AS
SELECT entity, CASE WHEN value = '' THEN 'field' ELSE 'value' END AS kind, path,
       nullif(value, '') AS value, first_seen_at, last_seen_at, days
FROM pluggy_sync.contract_drift;
