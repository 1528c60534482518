-- name: overview
-- returns: one? Overview
-- nullable: *
SELECT * FROM pluggy_ops.overview;

-- name: findings
-- returns: many Finding
-- nullable: *
SELECT * FROM pluggy_ops.findings ORDER BY weight DESC;

-- name: list_worklist
-- params: kind?, item_id?, limit
-- returns: many WorklistEntry
-- nullable: *
-- The findings thing by thing. Null: of any kind, of any item.
SELECT * FROM pluggy_ops.worklist
WHERE ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR item_id = $2)
ORDER BY weight DESC, since LIMIT $3;

-- name: backlog
-- returns: many Backlog
-- nullable: *
SELECT * FROM pluggy_ops.backlog;

-- name: lag
-- returns: many Lag
-- nullable: *
SELECT * FROM pluggy_ops.lag ORDER BY event;

-- name: show_item
-- params: item_id
-- returns: one? ShownItem
-- nullable: *
-- An item as operators may see it, and whether it has work. No row if nothing is known of it.
WITH item AS (
    -- Not its payload: operators may not read it.
    SELECT id, connector_id, connector_name, status, execution_status, error_code, products,
           last_updated_at, next_auto_sync_at, consent_expires_at, first_seen_at, changed_at, deleted_at,
           ended_at
    FROM pluggy.items WHERE id = $1
)
SELECT $1::uuid AS item_id, i.connector_id, i.connector_name, i.status, i.execution_status,
       i.error_code, i.products, i.last_updated_at, i.next_auto_sync_at, i.consent_expires_at,
       i.first_seen_at, i.changed_at, i.deleted_at, i.ended_at, s.generation, s.done_generation, s.run_at,
       (ARRAY['live', 'retry', 'backfill', 'audit'])[s.lane + 1] AS lane,
       coalesce(l.until > now(), false) AS is_running
FROM (SELECT) AS one
LEFT JOIN item i ON true
LEFT JOIN pluggy_sync.item_sync s ON s.item_id = $1
LEFT JOIN pluggy_sync.item_leases l ON l.item_id = $1
WHERE i.id IS NOT NULL OR s.item_id IS NOT NULL
   OR EXISTS (SELECT FROM pluggy_sync.webhook_events e
              WHERE e.item_id = $1 AND e.state IN ('pending', 'walking'))
   OR EXISTS (SELECT FROM pluggy_sync.webhook_events e
              WHERE e.item_id = $1 AND e.state IN ('applied', 'dead', 'ignored'));

-- name: count_item_rows
-- params: item_id
-- returns: many ItemRows
-- nullable: changed_at
-- Stored rows of an item by product, products without a row left out.
SELECT entity, live, deleted, changed_at FROM pluggy_sync.count_rows_of($1) ORDER BY entity;

-- name: item_freshness
-- params: item_id
-- returns: many ProductFreshness
-- nullable: *
SELECT product, scope_id, state, reason, blocked_on, stale_since, read_at, collected_at, watermark,
       attempts, next_try_at, error_id
FROM pluggy_ops.freshness WHERE item_id = $1
ORDER BY product, scope_id NULLS FIRST;

-- name: item_walks
-- params: item_id
-- returns: many ItemWalk
-- nullable: started_at
SELECT account_id, kind, (ARRAY['live', 'retry', 'backfill', 'audit'])[lane + 1] AS lane, asked_at,
       started_at, pages, rows_seen
FROM pluggy_sync.account_walks WHERE item_id = $1
ORDER BY asked_at;

-- name: item_open_events
-- params: item_id, limit
-- returns: many OpenEvent
-- nullable: account_id, ask_again_at
-- Events of an item that are not applied yet.
SELECT id, event, event_id, account_id, state, accepted_at, pending_since, ask_again_at
FROM pluggy_sync.webhook_events
WHERE item_id = $1 AND state IN ('pending', 'walking')
ORDER BY id LIMIT $2;

-- name: list_dead_letters
-- params: ids?, reason?, item_id?, connector_id?, limit?
-- returns: many DeadLetter
-- nullable: *
-- Oldest death first. Null: any, without a limit.
SELECT id, event, item_id, account_id, connector_name, reason, advice, error_id, failure_class, attempts,
       first_failed_at, last_failed_at, accepted_at, died_at
FROM pluggy_ops.dead_letters
WHERE ($1::bigint[] IS NULL OR id = ANY ($1)) AND ($2::text IS NULL OR reason = $2)
  AND ($3::uuid IS NULL OR item_id = $3) AND ($4::integer IS NULL OR connector_id = $4)
ORDER BY died_at, id LIMIT $5;

-- name: requeue_dead_letters
-- params: ids?, reason?, item_id?, connector_id?
-- returns: many Requeued
-- nullable: item_id, account_id
-- Dead events become pending again and their items due. Null: any. Returns them, and whether that
-- made their item due.
SELECT id, event, item_id, account_id, made_due
FROM pluggy_sync.revive_events(
    'dead',
    ARRAY(SELECT id FROM pluggy_sync.webhook_events
          WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY ($1))
            AND ($2::text IS NULL OR reason = $2) AND ($3::uuid IS NULL OR item_id = $3)
            AND ($4::integer IS NULL
                 OR item_id IN (SELECT i.id FROM pluggy.items i WHERE i.connector_id = $4))),
    '{}')
ORDER BY id;

-- name: order_erasure
-- params: item_id
-- returns: value
-- Has the purge take the item as soon as it is a tombstone. Returns whether anything is stored.
WITH item AS (
    SELECT id FROM pluggy.items WHERE id = $1
), ordered AS (
    INSERT INTO pluggy_sync.erasures (item_id) SELECT id FROM item ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM item) AS stored;

-- name: load_receipt
-- params: item_id
-- returns: value?
-- The receipt of an item that is purged.
WITH item AS (
    SELECT id FROM pluggy.items WHERE id = $1
)
SELECT max(id) AS id FROM pluggy_sync.purge_receipts
WHERE item_id = $1 AND NOT EXISTS (SELECT FROM item);

-- name: load_today
-- returns: value
-- The day in POSTED_ON_ZONE.
SELECT (now() AT TIME ZONE posted_on_zone)::date AS today FROM pluggy_sync.worker_settings;

-- name: list_items
-- params: client_user_id?, connector_id?, state?, blocked_on?, stale, limit
-- returns: many ListedItem
-- nullable: connector_id, connector_name, status, reason, stale_since, last_updated_at, next_auto_sync_at
-- Items with the worst freshness of their products. Null: any. stale: only what is not fresh.
WITH chosen AS (
    SELECT id, connector_id, connector_name, status, last_updated_at, next_auto_sync_at
    FROM pluggy.items
    WHERE deleted_at IS NULL AND ($1::text IS NULL OR client_user_id = $1)
      AND ($2::integer IS NULL OR connector_id = $2)
    ORDER BY id
    LIMIT CASE WHEN $3::text IS NULL AND $4::text IS NULL AND NOT $5::boolean THEN $6::bigint END
), judged AS (
    SELECT f.item_id, f.state, f.reason, f.blocked_on, f.stale_since,
           array_position(ARRAY['stale', 'unread', 'walking', 'incomplete', 'fresh'], f.state) AS rank
    FROM pluggy_ops.freshness f
    WHERE f.item_id = ANY (ARRAY(SELECT c.id FROM chosen c))
), worst AS (
    SELECT item_id, (array_agg(state ORDER BY rank, stale_since))[1] AS state,
           (array_agg(reason ORDER BY rank, reason IS NULL, stale_since))[1] AS reason,
           array_remove(array_agg(DISTINCT blocked_on), NULL) AS blocked_on, min(stale_since) AS stale_since
    FROM judged
    GROUP BY item_id
)
SELECT c.id AS item_id, c.connector_id, c.connector_name, c.status, coalesce(w.state, 'unread') AS state,
       w.reason, coalesce(w.blocked_on, '{}') AS blocked_on, w.stale_since, c.last_updated_at,
       c.next_auto_sync_at
FROM chosen c
LEFT JOIN worst w ON w.item_id = c.id
WHERE ($3 IS NULL OR coalesce(w.state, 'unread') = $3) AND ($4 IS NULL OR $4 = ANY (w.blocked_on))
  AND (NOT $5 OR w.state <> 'fresh')
ORDER BY c.id LIMIT $6;

-- name: load_item_webhook
-- params: item_id
-- returns: value?
-- The webhookUrl of an item: of its payload, which operators may not read.
SELECT payload ->> 'webhookUrl' AS webhook_url FROM pluggy.items WHERE id = $1;

-- name: known_items
-- params: item_ids
-- returns: values
-- Those of the items that are held.
SELECT id AS item_id FROM pluggy.items WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL;

-- name: has_arrived
-- params: event_id
-- returns: value
SELECT EXISTS (SELECT FROM pluggy_sync.webhook_events WHERE event_id = $1) AS arrived;

-- name: count_items_with_webhook
-- params: urls
-- returns: value
-- Items with one of these webhookUrls.
SELECT count(*) AS items FROM pluggy.items
WHERE deleted_at IS NULL AND payload ->> 'webhookUrl' = ANY ($1::text[]);

-- name: database_time
-- returns: value
SELECT clock_timestamp() AS now;

-- name: drift_of_items
-- params: item_ids, since
-- returns: many DriftFound
-- nullable: scope_id
SELECT item_id, product, scope_id, inserted, changed, deleted, found_at FROM pluggy_ops.drift
WHERE item_id = ANY ($1::uuid[]) AND found_at >= $2
ORDER BY found_at;
