-- name: load_consents_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, NULL::timestamptz AS source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.consents WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_consents
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id is not used: consents are listed by item.
SELECT id, row_hash, row_version, NULL::timestamptz AS source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.consents
WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_consents
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.consents AS stored
    (item_id, id, products, permissions, expires_at, revoked_at, source_created_at, payload,
     row_hash, row_version, run_id, first_seen_at, changed_at)
SELECT $2, r.id, r.products, r.permissions, r.expires_at, r.revoked_at, r.source_created_at,
       r.payload, r.row_hash, r.row_version, $3, $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.consents, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    products = excluded.products, permissions = excluded.permissions,
    expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
    source_created_at = excluded.source_created_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_consents
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One consent by its id, or all of the item.
UPDATE pluggy.consents SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (id, item_id) AND deleted_at IS NULL;
