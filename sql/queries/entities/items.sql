-- name: upsert_item
-- params: row, run_id, now
-- returns: none
-- row: a JSON object. Clears a tombstone, and the end of an item.
INSERT INTO pluggy.items AS stored
    (id, connector_id, connector_name, connector_is_open_finance, status, execution_status,
     error_code, client_user_id, products, source_created_at, source_updated_at, last_updated_at,
     next_auto_sync_at, consent_expires_at, has_resources_pending_authorization, payload, row_hash,
     row_version, run_id, first_seen_at, changed_at)
SELECT r.id, r.connector_id, r.connector_name, r.connector_is_open_finance, r.status,
       r.execution_status, r.error_code, r.client_user_id, r.products, r.source_created_at,
       r.source_updated_at, r.last_updated_at, r.next_auto_sync_at, r.consent_expires_at,
       r.has_resources_pending_authorization, r.payload, r.row_hash, r.row_version, $2, $3::timestamptz, $3
FROM jsonb_populate_record(NULL::pluggy.items, $1::jsonb) AS r
ON CONFLICT (id) DO UPDATE SET
    connector_id = excluded.connector_id, connector_name = excluded.connector_name,
    connector_is_open_finance = excluded.connector_is_open_finance, status = excluded.status,
    execution_status = excluded.execution_status, error_code = excluded.error_code,
    client_user_id = excluded.client_user_id, products = excluded.products,
    source_created_at = excluded.source_created_at, source_updated_at = excluded.source_updated_at,
    last_updated_at = excluded.last_updated_at, next_auto_sync_at = excluded.next_auto_sync_at,
    consent_expires_at = excluded.consent_expires_at,
    has_resources_pending_authorization = excluded.has_resources_pending_authorization,
    payload = excluded.payload,
    row_hash = excluded.row_hash, row_version = excluded.row_version, run_id = excluded.run_id,
    changed_at = excluded.changed_at, deleted_at = NULL, ended_at = NULL;

-- name: load_inner_item
-- params: item_id
-- returns: value?
-- The item that rows of a MeuPluggy item may name.
SELECT inner_item_id FROM pluggy.items
WHERE id = $1 AND connector_id = 200 AND inner_item_id IS NOT NULL;

-- name: pin_inner_item
-- params: item_id, inner_item_id, run_id, now
-- returns: value?
-- The first id that rows of a MeuPluggy item name in place of its own stays the only one; never that
-- of an item that is stored as another connector's. Returns true if it was pinned now.
UPDATE pluggy.items SET inner_item_id = $2, run_id = $3, changed_at = $4
WHERE id = $1 AND connector_id = 200 AND inner_item_id IS NULL AND deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM pluggy.items other
                  WHERE other.id = $2 AND other.connector_id IS DISTINCT FROM 200)
RETURNING true;

-- name: reset_reads
-- params: item_id
-- returns: none
-- A tombstoned item answers again: all that was read of it is tombstoned too, so all else is read
-- again.
UPDATE pluggy_sync.product_sync
SET complete_read_at = NULL, source_updated_at = NULL, watermark = NULL, walked_at = NULL,
    read_since = NULL, recent_at = NULL, fingerprint = NULL, read_seq = NULL,
    walked_seq = NULL, recent_seq = NULL, read_up_to = NULL, narrow_until = NULL, wide_by = NULL,
    wide_ordered = false
WHERE item_id = $1 AND product <> 'items';

-- name: end_item
-- params: item_id, run_id, now
-- returns: value
-- Keeps the rows of an item that Pluggy has deleted, if our own reads had recorded its connector as
-- withdrawn before the deletion was announced. Not with KEEP_ENDED=0, nor if its erasure is ordered.
-- Returns whether it did; else the item and its rows are to be tombstoned.
WITH announced AS (
    SELECT min(accepted_at) AS at FROM pluggy_sync.webhook_events
    WHERE item_id = $1 AND event = 'item/deleted' AND state IN ('pending', 'walking')
), withdrawn AS (
    SELECT w.connector_id FROM pluggy_sync.withdrawn_connectors w, announced a, pluggy_sync.worker_settings s
    WHERE w.withdrawn_at < a.at AND s.keep_ended
      AND NOT EXISTS (SELECT FROM pluggy_sync.erasures WHERE item_id = $1)
), item AS (
    UPDATE pluggy.items SET deleted_at = $3::timestamptz, ended_at = $3, changed_at = $3, run_id = $2
    WHERE id = $1 AND deleted_at IS NULL AND connector_id IN (SELECT connector_id FROM withdrawn)
    RETURNING id
), walks AS (
    DELETE FROM pluggy_sync.account_walks WHERE item_id IN (SELECT id FROM item) RETURNING walk_id
), pages AS (
    DELETE FROM pluggy_sync.walk_pages p USING walks w WHERE p.walk_id = w.walk_id
)
SELECT EXISTS (SELECT FROM item) AS ended;

-- name: tombstone_item
-- params: item_id, run_id, now
-- returns: count
-- An item that Pluggy has deleted, ended or not, and what was still to be read of it.
WITH walks AS (
    DELETE FROM pluggy_sync.account_walks WHERE item_id = $1 RETURNING walk_id
), pages AS (
    DELETE FROM pluggy_sync.walk_pages p USING walks w WHERE p.walk_id = w.walk_id
)
UPDATE pluggy.items
SET deleted_at = coalesce(deleted_at, $3::timestamptz), ended_at = NULL, changed_at = $3, run_id = $2
WHERE id = $1 AND (deleted_at IS NULL OR ended_at IS NOT NULL);

-- name: delete_unknown_item
-- params: item_id, token
-- returns: none
-- That Pluggy does not know the item needs nobody any more.
DELETE FROM pluggy_sync.product_sync
WHERE item_id = $1 AND product = 'items' AND failure_code = '404:ITEM_NOT_FOUND'
  AND EXISTS (SELECT FROM pluggy_sync.item_leases WHERE item_id = $1 AND token = $2);

-- name: ignore_unknown_events
-- params: item_id, token
-- returns: none
-- What died because Pluggy does not know the item.
WITH item AS (
    SELECT id FROM pluggy.items WHERE id = $1
)
UPDATE pluggy_sync.webhook_events
SET state = 'ignored', settled_at = clock_timestamp(),
    reason = CASE WHEN EXISTS (SELECT FROM item) THEN 'item_deleted' ELSE 'item_unknown' END
WHERE item_id = $1 AND state = 'dead' AND reason = '404:ITEM_NOT_FOUND'
  AND EXISTS (SELECT FROM pluggy_sync.item_leases WHERE item_id = $1 AND token = $2);
