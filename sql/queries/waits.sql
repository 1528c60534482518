-- name: begin_waits
-- params: item_ids
-- returns: many BegunWait
-- What is known of items when a wait for them begins: whether anything is, and their open events.
SELECT w.item_id,
       EXISTS (SELECT FROM pluggy.items i WHERE i.id = w.item_id)
           OR EXISTS (SELECT FROM pluggy_sync.item_sync s WHERE s.item_id = w.item_id)
           OR EXISTS (SELECT FROM pluggy_sync.webhook_events e
                      WHERE e.item_id = w.item_id AND e.state IN ('pending', 'walking'))
           OR EXISTS (SELECT FROM pluggy_sync.webhook_events e
                      WHERE e.item_id = w.item_id AND e.state IN ('applied', 'dead', 'ignored'))
           OR EXISTS (SELECT FROM pluggy_sync.purge_receipts r WHERE r.item_id = w.item_id) AS is_known,
       ARRAY(SELECT e.id FROM pluggy_sync.webhook_events e
             WHERE e.item_id = w.item_id AND e.state IN ('pending', 'walking')) AS open_events
FROM unnest($1::uuid[]) AS w(item_id);

-- name: poll_waits
-- params: numbers, item_ids, event_ids[?], sinces[?], known_numbers, known_events, transactions,
--     max_missing
-- returns: many WaitState
-- nullable: known_state
-- How far the waits of this moment are, all of them by one snapshot: a row for each number, with what
-- it still waits for as JSON, cut at max_missing. Without event_id and since it waits for the
-- events that were open when it began (known_numbers and known_events, in pairs) and for the first
-- complete read of everything; with event_id for all that is stored under that id; with since for a
-- complete read of everything that started later. What is dead was not applied. transactions:
-- whether they are mirrored, so that every account has a read of its own.
WITH waits AS MATERIALIZED (
    SELECT * FROM unnest($1::integer[], $2::uuid[], $3::text[], $4::timestamptz[])
        AS w(number, item_id, event_id, since)
), missing AS (
    SELECT k.number, jsonb_build_object(
               'event', e.event, 'event_id', e.event_id, 'state', e.state, 'reason', e.reason) AS what
    FROM unnest($5::integer[], $6::bigint[]) AS k(number, id)
    JOIN pluggy_sync.webhook_events e ON e.id = k.id AND e.state NOT IN ('applied', 'ignored')
    UNION ALL
    SELECT w.number, jsonb_build_object(
               'event', e.event, 'event_id', w.event_id, 'state', coalesce(e.state, 'not_received'),
               'reason', e.reason)
    FROM waits w
    LEFT JOIN pluggy_sync.webhook_events e ON e.event_id = w.event_id AND e.item_id = w.item_id
    WHERE w.event_id IS NOT NULL AND (e.id IS NULL OR e.state NOT IN ('applied', 'ignored'))
    UNION ALL
    SELECT w.number, jsonb_build_object(
               'product', p.product, 'scope_id', nullif(p.scope_id, '00000000-0000-0000-0000-000000000000'),
               'state', CASE WHEN p.dead_at IS NOT NULL THEN 'dead' WHEN p.parked_at IS NOT NULL THEN 'parked'
                             WHEN p.failing_since IS NOT NULL THEN 'failing'
                             WHEN p.deferred_since IS NOT NULL THEN 'deferred' ELSE 'unread' END,
               'reason', p.failure_code)
    FROM waits w
    JOIN pluggy_sync.product_sync p USING (item_id)
    WHERE w.event_id IS NULL AND (p.complete_read_at IS NULL OR p.complete_read_at <= w.since)
    UNION ALL
    SELECT w.number, jsonb_build_object(
               'product', r.product, 'scope_id', r.scope_id, 'state', 'unread', 'reason', NULL)
    FROM waits w
    CROSS JOIN LATERAL (
        SELECT n.product, NULL::uuid AS scope_id FROM (VALUES ('items'), ('accounts')) AS n(product)
        UNION ALL
        SELECT 'transactions', a.id FROM pluggy.accounts a
        WHERE a.item_id = w.item_id AND a.deleted_at IS NULL AND $7::boolean) AS r
    WHERE w.event_id IS NULL
      AND NOT EXISTS (SELECT FROM pluggy_sync.product_sync p
                      WHERE p.item_id = w.item_id AND p.product = r.product
                        AND p.scope_id = coalesce(r.scope_id, '00000000-0000-0000-0000-000000000000'))
), first AS (
    SELECT number, what FROM (SELECT number, what, row_number() OVER (PARTITION BY number) AS place
                              FROM missing) AS m
    WHERE place <= $8::bigint
), shown AS (
    SELECT number, jsonb_agg(what)::text AS missing FROM first GROUP BY number
)
SELECT w.number, coalesce(s.missing, '[]') AS missing,
       CASE WHEN i.deleted_at IS NOT NULL THEN 'deleted'
            WHEN i.id IS NOT NULL THEN 'stored'
            WHEN EXISTS (SELECT FROM pluggy_sync.webhook_events e
                         WHERE e.item_id = w.item_id AND e.state IN ('pending', 'walking')) THEN NULL
            WHEN EXISTS (SELECT FROM pluggy_sync.purge_receipts r WHERE r.item_id = w.item_id) THEN 'deleted'
            WHEN EXISTS (SELECT FROM pluggy_sync.webhook_events e
                         WHERE e.item_id = w.item_id AND e.state IN ('dead', 'ignored')
                           AND e.reason IN ('404:ITEM_NOT_FOUND', 'item_unknown'))
                THEN 'unknown'
       END AS known_state
FROM waits w
LEFT JOIN pluggy.items i ON i.id = w.item_id
LEFT JOIN shown s ON s.number = w.number;

-- name: freshness_of_items
-- params: item_ids
-- returns: many ItemFreshness
-- nullable: scope_id, reason, blocked_on, stale_since, read_at, collected_at, watermark
-- The products of items, each with its scope: an account, an investment, or null for the whole item.
SELECT item_id, product, scope_id, state, reason, blocked_on, stale_since, read_at, collected_at, watermark
FROM pluggy_ops.freshness WHERE item_id = ANY ($1::uuid[])
ORDER BY item_id, product, scope_id NULLS FIRST;

-- name: register_item
-- params: item_id
-- returns: one Registered
-- The event of an item that was just connected, as POST /items of the receiver stores it. Returns
-- whether it is new, and whether that made the item due.
SELECT is_new, made_due FROM pluggy_sync.register_item($1);
