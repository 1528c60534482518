-- name: load_identities_versions
-- params: item_id, ids
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- missing_since: a mark that the next sight of the row clears.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.identities WHERE item_id = $1 AND id = ANY($2::uuid[]);

-- name: load_live_identities
-- params: item_id, owner_id
-- returns: many StoredVersion
-- nullable: source_updated_at, deleted_at, missing_since
-- The rows of a list. owner_id is not used: identities are listed by item.
SELECT id, row_hash, row_version, source_updated_at, changed_at, deleted_at,
       NULL::timestamptz AS missing_since
FROM pluggy.identities
WHERE item_id = $1 AND $2::uuid IS NOT NULL AND deleted_at IS NULL
ORDER BY id;

-- name: upsert_identities
-- params: rows, item_id, run_id, now
-- returns: many Upserted
-- rows: a JSON array. Clears tombstones. Returns which rows are new.
INSERT INTO pluggy.identities AS stored
    (item_id, id, full_name, company_name, document, document_type, tax_number, birth_date,
     job_title, investor_profile, source_created_at, source_updated_at, payload, row_hash,
     row_version, run_id, first_seen_at, changed_at)
SELECT $2, r.id, r.full_name, r.company_name, r.document, r.document_type, r.tax_number,
       r.birth_date, r.job_title, r.investor_profile, r.source_created_at, r.source_updated_at,
       r.payload, r.row_hash, r.row_version, $3, $4::timestamptz, $4
FROM jsonb_populate_recordset(NULL::pluggy.identities, $1::jsonb) AS r
ORDER BY r.id
ON CONFLICT (item_id, id) DO UPDATE SET
    full_name = excluded.full_name, company_name = excluded.company_name,
    document = excluded.document, document_type = excluded.document_type,
    tax_number = excluded.tax_number, birth_date = excluded.birth_date,
    job_title = excluded.job_title, investor_profile = excluded.investor_profile,
    source_created_at = excluded.source_created_at, source_updated_at = excluded.source_updated_at,
    payload = excluded.payload, row_hash = excluded.row_hash, row_version = excluded.row_version,
    run_id = excluded.run_id, changed_at = excluded.changed_at, deleted_at = NULL
RETURNING id, xmax = 0 AS is_new;

-- name: tombstone_identities
-- params: item_id, owner_id, run_id, now
-- returns: count
-- One identity by its id, or all of the item.
UPDATE pluggy.identities SET deleted_at = $4::timestamptz, changed_at = $4, run_id = $3
WHERE item_id = $1 AND $2::uuid IN (id, item_id) AND deleted_at IS NULL;
