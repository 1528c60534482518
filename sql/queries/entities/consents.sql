-- name: load_consents_versions
-- $1 item, $2 ids. missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, NULL::timestamptz AS source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.consents WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_consents_ids
-- $1 item, $2 unused (listed by item).
SELECT id FROM pluggy.consents WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_consents
-- $1 rows as JSON, $2 item, $3 run. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.consents AS held
    (item_id, id, products, permissions, expires_at, revoked_at, source_created_at, payload,
     row_hash, row_version, run_id)
SELECT $2, r.id, r.products, r.permissions, r.expires_at, r.revoked_at, r.source_created_at,
       r.payload, decode(r.row_hash, 'hex'), r.row_version, $3
FROM jsonb_to_recordset($1::jsonb) AS r(
    id uuid, products text[], permissions text[], expires_at timestamptz, revoked_at timestamptz,
    source_created_at timestamptz, payload jsonb, row_hash text, row_version smallint)
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    products = excluded.products, permissions = excluded.permissions,
    expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
    source_created_at = excluded.source_created_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = clock_timestamp(), deleted_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_consents
-- A consent that Pluggy no longer knows. $1 item, $2 id, $3 run.
WITH gone AS (
    UPDATE pluggy.consents SET deleted_at = now(), changed_at = clock_timestamp(), run_id = $3
    WHERE item_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING id
)
SELECT count(*) AS deleted FROM gone;
