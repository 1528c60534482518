-- name: load_unknown_connectors
-- returns: values
-- Connectors of items that are neither stored nor known to be missing at Pluggy. The items are not
-- scanned: each step hops to the next connector in the index.
WITH RECURSIVE stored AS (
    SELECT min(connector_id) AS id FROM pluggy.items
    UNION ALL
    SELECT (SELECT min(i.connector_id) FROM pluggy.items i WHERE i.connector_id > stored.id)
    FROM stored WHERE stored.id IS NOT NULL
)
SELECT stored.id FROM stored
WHERE stored.id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pluggy.connectors c WHERE c.id = stored.id)
  AND NOT EXISTS (SELECT FROM pluggy_sync.reference_data_sync s
                  WHERE s.product = 'connectors' AND stored.id::text = ANY (s.unknown_ids));

-- name: lease_reference_data
-- params: lease_for, has_unknown
-- returns: one? RefreshLease
-- nullable: failing_since, dead_at
-- Leases connectors or categories, whichever is due: once a day, and connectors also when an event
-- names one (or, has_unknown, an item has one that we do not hold). At most once a minute, not
-- while backed off, and not while everything is halted.
WITH due AS (
    SELECT c.product
    FROM pluggy_sync.reference_data_sync c
    WHERE c.until <= now()
      AND (c.started_at IS NULL OR c.started_at <= now() - interval '1 minute')
      AND (c.next_try_at IS NULL OR c.next_try_at <= now())
      AND (coalesce(greatest(c.complete_read_at, c.dead_at), '-infinity') <= now() - interval '1 day'
           OR (c.product = 'connectors' AND (
               ($2::boolean AND c.dead_at IS NULL)
               OR EXISTS (SELECT FROM pluggy_sync.webhook_events e
                          WHERE e.item_id IS NULL AND e.state = 'pending'
                            AND e.connector_id IS NOT NULL))))
    ORDER BY c.started_at NULLS FIRST
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE pluggy_sync.reference_data_sync c
SET token = gen_random_uuid(), until = clock_timestamp() + $1::interval,
    started_at = clock_timestamp(), read_seq = nextval('pluggy_sync.pending_seq')
FROM due
WHERE c.product = due.product
  AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
RETURNING c.product, c.token, c.started_at, c.read_seq, c.attempts, c.failing_since, c.dead_at,
          coalesce(c.absences_asked_at <= now() - interval '1 day', true) AS absences_due;

-- name: fence_reference_data
-- params: product, token, lease_for
-- returns: one? ReferenceDataFence
-- First statement of the transaction that writes: 0 rows: another worker has taken over.
UPDATE pluggy_sync.reference_data_sync SET until = clock_timestamp() + $3::interval
WHERE product = $1 AND token = $2
RETURNING clock_timestamp() AS now,
          set_config('idle_in_transaction_session_timeout', '15s', true) AS stall_limit;

-- name: mark_reference_data_complete
-- params: product, token, absences_asked, unknown_ids, incomplete_reason?
-- returns: none
-- A complete read has been stored; frees the lease. unknown_ids: connectors of items that Pluggy
-- does not know either.
UPDATE pluggy_sync.reference_data_sync
SET token = NULL, until = '-infinity', complete_read_at = started_at,
    absences_asked_at = CASE WHEN $3 THEN started_at ELSE absences_asked_at END,
    unknown_ids = unknown_ids || $4::text[], incomplete_reason = $5,
    attempts = 0, failing_since = NULL, failed_at = NULL, next_try_at = NULL, dead_at = NULL,
    failure_class = NULL, failure_code = NULL, error_id = NULL
WHERE product = $1 AND token = $2;

-- name: fail_reference_data
-- params: product, token, failure_class, code, error_id?, attempts, pause?
-- returns: none
-- A read has failed; frees the lease. pause: before the next try (null: dead now, and with it the
-- events that had asked for it by then).
WITH failed AS (
    UPDATE pluggy_sync.reference_data_sync
    SET token = NULL, until = '-infinity', failure_class = $3, failure_code = $4, error_id = $5,
        attempts = $6, failed_at = now(), next_try_at = now() + $7::interval,
        failing_since = CASE WHEN dead_at IS NULL THEN coalesce(failing_since, now()) ELSE now() END,
        dead_at = CASE WHEN $7::interval IS NULL THEN now() END
    WHERE product = $1 AND token = $2
    RETURNING product, dead_at, read_seq
)
UPDATE pluggy_sync.webhook_events e
SET state = 'dead', reason = $4, error_id = $5, settled_at = clock_timestamp()
FROM failed f
WHERE f.product = 'connectors' AND f.dead_at IS NOT NULL
  AND e.item_id IS NULL AND e.state = 'pending' AND e.connector_id IS NOT NULL
  AND e.pending_seq < f.read_seq;

-- name: release_reference_data
-- params: product, token, pause
-- returns: none
-- Frees the lease and spends no attempt. pause: before the next try.
UPDATE pluggy_sync.reference_data_sync
SET token = NULL, until = '-infinity', next_try_at = now() + $3::interval
WHERE product = $1 AND token = $2;

-- name: load_connector_events
-- params: read_seq
-- returns: many ConnectorEvent
-- Those that the read answers.
SELECT id, connector_id FROM pluggy_sync.webhook_events
WHERE item_id IS NULL AND state = 'pending' AND connector_id IS NOT NULL AND pending_seq < $1
ORDER BY id;

-- name: settle_connector_events
-- params: event_ids, read_seq, run_id
-- returns: none
-- Events whose connector was read after they became pending.
WITH known AS (
    SELECT id FROM pluggy.connectors
)
UPDATE pluggy_sync.webhook_events e
SET settled_at = clock_timestamp(), run_id = $3,
    state = CASE WHEN e.connector_id IN (SELECT id FROM known) THEN 'applied' ELSE 'ignored' END,
    reason = CASE WHEN e.connector_id NOT IN (SELECT id FROM known) THEN 'connector_unknown' END
WHERE e.id = ANY ($1::bigint[]) AND e.state = 'pending' AND e.pending_seq < $2;

-- name: load_connectors_versions
-- returns: many ConnectorVersion
-- nullable: deleted_at
SELECT id, row_hash, row_version, deleted_at FROM pluggy.connectors;

-- name: upsert_connectors
-- params: row, run_id, now
-- returns: value
-- row: a JSON object. Clears a tombstone. Returns whether it is new.
INSERT INTO pluggy.connectors AS stored
    (id, name, type, country, institution_url, image_url, primary_color, has_mfa, oauth,
     is_open_finance, is_sandbox, health_status, health_stage, products, source_created_at,
     source_updated_at, payload, row_hash, row_version, run_id, first_seen_at, changed_at)
SELECT r.id, r.name, r.type, r.country, r.institution_url, r.image_url, r.primary_color, r.has_mfa,
       r.oauth, r.is_open_finance, r.is_sandbox, r.health_status, r.health_stage, r.products,
       r.source_created_at, r.source_updated_at, r.payload, r.row_hash, r.row_version, $2,
       $3::timestamptz, $3
FROM jsonb_populate_record(NULL::pluggy.connectors, $1::jsonb) AS r
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, type = excluded.type, country = excluded.country,
    institution_url = excluded.institution_url, image_url = excluded.image_url,
    primary_color = excluded.primary_color, has_mfa = excluded.has_mfa, oauth = excluded.oauth,
    is_open_finance = excluded.is_open_finance, is_sandbox = excluded.is_sandbox,
    health_status = excluded.health_status, health_stage = excluded.health_stage,
    products = excluded.products, source_created_at = excluded.source_created_at,
    source_updated_at = excluded.source_updated_at, payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL
RETURNING xmax = 0 AS is_new;

-- name: tombstone_connectors
-- params: ids, run_id, now
-- returns: values
-- Connectors that Pluggy no longer knows, neither listed nor by id.
UPDATE pluggy.connectors SET deleted_at = $3::timestamptz, changed_at = $3, run_id = $2
WHERE id = ANY ($1::integer[]) AND deleted_at IS NULL
RETURNING id;

-- name: load_categories_versions
-- returns: many CategoryVersion
-- nullable: deleted_at
SELECT id, row_hash, row_version, deleted_at FROM pluggy.categories;

-- name: upsert_categories
-- params: row, run_id, now
-- returns: value
-- row: a JSON object. Clears a tombstone. Returns whether it is new.
INSERT INTO pluggy.categories AS stored
    (id, description, description_translated, parent_id, parent_description, payload, row_hash,
     row_version, run_id, first_seen_at, changed_at)
SELECT r.id, r.description, r.description_translated, r.parent_id, r.parent_description, r.payload,
       r.row_hash, r.row_version, $2, $3::timestamptz, $3
FROM jsonb_populate_record(NULL::pluggy.categories, $1::jsonb) AS r
ON CONFLICT (id) DO UPDATE SET
    description = excluded.description, description_translated = excluded.description_translated,
    parent_id = excluded.parent_id, parent_description = excluded.parent_description,
    payload = excluded.payload, row_hash = excluded.row_hash, row_version = excluded.row_version,
    run_id = excluded.run_id, changed_at = excluded.changed_at, deleted_at = NULL
RETURNING xmax = 0 AS is_new;

-- name: tombstone_categories
-- params: ids, run_id, now
-- returns: values
-- Categories that Pluggy no longer knows, neither listed nor by id.
UPDATE pluggy.categories SET deleted_at = $3::timestamptz, changed_at = $3, run_id = $2
WHERE id = ANY ($1::text[]) AND deleted_at IS NULL
RETURNING id;

-- name: record_withdrawn_connectors
-- params: listed, unlisted, gone, run_id, now
-- returns: none
-- What a complete list says: connectors that it has are offered; unlisted ones were asked for by id,
-- and those of them that are gone answered 404. The times of the first such read stay.
WITH offered AS (
    DELETE FROM pluggy_sync.withdrawn_connectors WHERE connector_id = ANY ($1::integer[])
)
INSERT INTO pluggy_sync.withdrawn_connectors AS stored (connector_id, unlisted_at, withdrawn_at, run_id)
SELECT u.id, $5::timestamptz, CASE WHEN u.id = ANY ($3::integer[]) THEN $5 END, $4
FROM unnest($2::integer[]) AS u(id)
ON CONFLICT (connector_id) DO UPDATE
SET withdrawn_at = CASE WHEN excluded.withdrawn_at IS NOT NULL
                        THEN coalesce(stored.withdrawn_at, excluded.withdrawn_at) END,
    run_id = excluded.run_id
WHERE (stored.withdrawn_at IS NULL) <> (excluded.withdrawn_at IS NULL);
