-- name: load_item_state
-- params: item_id
-- returns: one? ItemStateRow
-- nullable: webhook_check_at, is_open_finance, connector_id, item, item_deleted_at
-- What a sync of an item has to know, in one statement: its place in the order of events and reads
-- (drawn after the snapshot, so it is above that of every event seen), the generation and the
-- pending events that it counts (one snapshot: read apart, an event between the two would be
-- settled unseen), the steps, the walks under way, the accounts and the stored item. An event that
-- waits for walks is open again as soon as no walk that it asked for is under way.
WITH created AS (
    SELECT DISTINCT account_id FROM pluggy_sync.webhook_events
    WHERE item_id = $1 AND state IN ('pending', 'walking')
      AND event = 'transactions/created' AND account_id IS NOT NULL
)
SELECT
    clock_timestamp() AS now,
    nextval('pluggy_sync.pending_seq') AS read_seq,
    s.generation,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'id', e.id, 'event', e.event, 'account_id', e.account_id,
            'ids_open', cardinality(e.transaction_ids) - coalesce(d.done, 0),
            'ids_came_back', coalesce(d.came_back, false),
            'ids_unreadable', coalesce(e.expected_rows > coalesce(cardinality(e.transaction_ids), 0),
                                       e.transaction_ids IS NULL),
            'created_at_from', e.created_at_from,
            'expected_rows', e.expected_rows, 'lane', e.lane, 'state', e.state,
            'pending_since', e.pending_since, 'pending_seq', e.pending_seq,
            'ask_again_at', e.ask_again_at, 'confirming', e.confirming,
            'confirming_since', e.confirming_since) ORDER BY e.id)
        FROM pluggy_sync.webhook_events e
        LEFT JOIN pluggy_sync.id_progress d
            ON d.event_row_id = e.id AND d.pending_seq = e.pending_seq
            AND d.ask_again_at IS NOT DISTINCT FROM e.ask_again_at
        WHERE e.item_id = s.item_id
          AND (e.state = 'pending' OR (e.state = 'walking' AND NOT EXISTS (
              SELECT FROM pluggy_sync.account_walks w
              LEFT JOIN pluggy_sync.product_sync p
                  ON p.item_id = w.item_id AND p.scope_id = w.account_id
                  AND p.product = 'transactions'
              WHERE w.item_id = e.item_id AND p.dead_at IS NULL
                AND (e.account_id IS NULL OR e.account_id = w.account_id))))
    ), '[]')::text AS events,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'product', p.product, 'scope_id', p.scope_id, 'watermark', p.watermark,
            'source_updated_at', p.source_updated_at, 'complete_read_at', p.complete_read_at,
            'walked_at', p.walked_at, 'read_seq', p.read_seq,
            'walked_seq', p.walked_seq, 'recent_seq', p.recent_seq, 'dead_seq', p.dead_seq,
            'fingerprint', p.fingerprint,
            'read_since', p.read_since, 'read_up_to', p.read_up_to,
            'narrow_until', p.narrow_until, 'wide_by', p.wide_by,
            'unreadable_walk_at', p.unreadable_walk_at, 'first_read_at', p.first_read_at,
            'awaits_rows', p.awaits_rows,
            'recent_at', p.recent_at, 'attempts', p.attempts, 'failing_since', p.failing_since,
            'next_try_at', p.next_try_at, 'dead_at', p.dead_at,
            'deferred_since', p.deferred_since, 'failure_code', p.failure_code,
            'error_id', p.error_id))
        FROM pluggy_sync.product_sync p WHERE p.item_id = s.item_id
    ), '[]')::text AS steps,
    coalesce((
        SELECT jsonb_agg(to_jsonb(w) ORDER BY w.lane, w.asked_at)
        FROM pluggy_sync.account_walks w WHERE w.item_id = s.item_id
    ), '[]')::text AS walks,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'id', a.id, 'live', a.deleted_at IS NULL, 'type', a.type))
        FROM pluggy.accounts a WHERE a.item_id = $1
    ), '[]')::text AS accounts,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object('id', n.id, 'fingerprint', encode(n.row_hash, 'hex')))
        FROM pluggy.investments n WHERE n.item_id = $1 AND n.deleted_at IS NULL
    ), '[]')::text AS investments,
    ARRAY(SELECT k.product FROM pluggy_sync.parked_products k) AS parked,
    ARRAY(
        SELECT DISTINCT t.account_id FROM pluggy.transactions t
        WHERE t.item_id = $1 AND t.deletion_flagged_at IS NOT NULL
          AND t.deletion_flag = 'no_witness' AND t.deleted_at IS NULL
    ) AS unwitnessed,
    coalesce((
        SELECT jsonb_object_agg(c.account_id, (
            SELECT max(t.source_created_at) FROM pluggy.transactions t
            WHERE t.item_id = $1 AND t.account_id = c.account_id))
        FROM created c
    ), '{}')::text AS newest_rows,
    (SELECT n.webhook_check_at FROM pluggy_sync.item_reconciliations n
     WHERE n.item_id = s.item_id) AS webhook_check_at,
    (SELECT i.connector_is_open_finance FROM pluggy.items i WHERE i.id = $1)
        AS is_open_finance,
    (SELECT i.connector_id FROM pluggy.items i WHERE i.id = $1) AS connector_id,
    (SELECT i.payload::text FROM pluggy.items i WHERE i.id = $1) AS item,
    -- Of an item that was purged only the receipt is left.
    CASE WHEN EXISTS (SELECT FROM pluggy.items i WHERE i.id = $1)
         THEN (SELECT i.deleted_at FROM pluggy.items i WHERE i.id = $1)
         ELSE (SELECT max(r.item_deleted_at) FROM pluggy_sync.purge_receipts r
               WHERE r.item_id = s.item_id)
    END AS item_deleted_at
FROM pluggy_sync.item_sync s
WHERE s.item_id = $1;
