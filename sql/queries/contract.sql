-- name: note_novelties
-- params: entity, paths, values, run_id
-- returns: many Novelty
-- Written once a day each, and in the order of the key, so that pages never wait for each other in
-- a circle. At most 500 of an entity: keys of a map are no fields.
INSERT INTO pluggy_sync.contract_drift AS d (entity, path, value, run_id)
SELECT $1, n.path, n.value, $4
FROM unnest($2::text[], $3::text[]) AS n(path, value)
WHERE NOT EXISTS (SELECT FROM pluggy_sync.contract_drift h
                  WHERE h.entity = $1 AND h.path = n.path AND h.value = n.value
                    AND h.last_seen_at >= date_trunc('day', now(), 'UTC'))
  AND (EXISTS (SELECT FROM pluggy_sync.contract_drift h
               WHERE h.entity = $1 AND h.path = n.path AND h.value = n.value)
       OR (SELECT count(*) FROM pluggy_sync.contract_drift h WHERE h.entity = $1) < 500)
ORDER BY n.path, n.value
ON CONFLICT (entity, path, value) DO UPDATE
SET last_seen_at = excluded.last_seen_at, days = d.days + 1
WHERE d.last_seen_at < date_trunc('day', now(), 'UTC')
RETURNING path, value, days;
