-- name: load_item_state
-- params: item_id, token? = null, lease_for? = null
-- returns: one? ItemStateRow
-- nullable: webhook_check_at, is_open_finance, connector_id, connector_name, item, item_hash,
--     item_version, item_updated_at, item_changed_at, item_deleted_at, run_id
-- What a sync of an item has to know, in one statement: its place in the order of events and reads
-- (drawn after the snapshot, so it is above that of every event seen), the generation and the
-- pending events that it counts (one snapshot: read apart, an event between the two would be
-- settled unseen), the steps, the walks under way, the accounts and the stored item. An event that
-- waits for walks is open again as soon as no walk that it asked for is under way.
-- token: renews the lease and, if there are events, opens their run in the same transaction, so that
-- one is open only while the lease is held; no run_id: the lease is another worker's.
WITH lease AS (
    UPDATE pluggy_sync.item_leases SET until = clock_timestamp() + $3::interval
    WHERE item_id = $1 AND token = $2::uuid
    RETURNING item_id
), open_events AS MATERIALIZED (
    SELECT e.*, d.done, d.came_back
    FROM pluggy_sync.webhook_events e
    LEFT JOIN pluggy_sync.id_progress d
        ON d.event_row_id = e.id AND d.pending_seq = e.pending_seq
        AND d.ask_again_at IS NOT DISTINCT FROM e.ask_again_at
    WHERE e.item_id = $1
      AND (e.state = 'pending' OR (e.state = 'walking' AND NOT EXISTS (
          SELECT FROM pluggy_sync.account_walks w
          LEFT JOIN pluggy_sync.product_sync p
              ON p.item_id = w.item_id AND p.scope_id = w.account_id
              AND p.product = 'transactions'
          WHERE w.item_id = e.item_id AND p.dead_at IS NULL
            AND (e.account_id IS NULL OR e.account_id = w.account_id))))
), run AS (
    INSERT INTO pluggy_sync.runs (item_id, kind, event_ids)
    SELECT l.item_id, 'sync', ARRAY(SELECT id FROM open_events ORDER BY id)
    FROM lease l WHERE EXISTS (SELECT FROM open_events)
    RETURNING id
), item AS MATERIALIZED (
    SELECT * FROM pluggy.items WHERE id = $1
), created AS (
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
            'ids_open', cardinality(e.transaction_ids) - coalesce(e.done, 0),
            'ids_came_back', coalesce(e.came_back, false),
            'ids_unreadable', coalesce(e.expected_rows > coalesce(cardinality(e.transaction_ids), 0),
                                       e.transaction_ids IS NULL),
            'created_at_from', e.created_at_from,
            'expected_rows', e.expected_rows, 'lane', e.lane, 'state', e.state,
            'pending_since', e.pending_since, 'pending_seq', e.pending_seq,
            'ask_again_at', e.ask_again_at, 'confirming', e.confirming,
            'confirming_since', e.confirming_since) ORDER BY e.id)
        FROM open_events e
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
    i.connector_is_open_finance AS is_open_finance,
    i.connector_id, i.connector_name, i.payload::text AS item, i.row_hash AS item_hash,
    i.row_version AS item_version, i.source_updated_at AS item_updated_at,
    i.changed_at AS item_changed_at,
    -- Of an item that was purged only the receipt is left.
    CASE WHEN i.id IS NOT NULL THEN i.deleted_at
         ELSE (SELECT max(r.item_deleted_at) FROM pluggy_sync.purge_receipts r
               WHERE r.item_id = s.item_id)
    END AS item_deleted_at,
    EXISTS (SELECT FROM pluggy_sync.rejected_rows WHERE item_id = $1) AS has_rejected,
    EXISTS (SELECT FROM pluggy_sync.account_walks
            WHERE item_id = $1 AND read_at IS NOT NULL) AS has_absent,
    (SELECT id FROM run) AS run_id
FROM pluggy_sync.item_sync s
LEFT JOIN item i ON true
WHERE s.item_id = $1;
