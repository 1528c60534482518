-- name: accept_events
-- params: event_ids, body_sha256s, events, item_ids[?], account_ids[?]?, transaction_ids[?]?,
--     created_at_froms[?]?, expected_rows[?]?, lanes, states, reasons[?]?, bodies, received_ats,
--     connector_ids[?]?
-- returns: many AcceptedRow
-- nullable: id
-- Stores a group of deliveries and bumps their items in one statement. Arrays with an entry for
-- each delivery, or null if all are; transaction_ids are array literals. Returns a row per key:
-- whether it is new (or settled without effect and pending again), and whether the bump made its
-- item due, or lifted an item that was due already into the live lane: nobody has been woken for
-- that. New events, then revived ones, then items are each written in key order, so that receivers
-- never wait for each other in a circle.
WITH delivered AS MATERIALIZED (
    SELECT DISTINCT ON (event_id, body_sha256) *
    FROM unnest($1::text[], $2::bytea[], $3::text[], $4::uuid[], $5::uuid[], $6::text[],
                $7::timestamptz[], $8::integer[], $9::smallint[], $10::text[], $11::text[],
                $12::bytea[], $13::timestamptz[], $14::integer[])
        AS d(event_id, body_sha256, event, item_id, account_id, transaction_ids,
             created_at_from, expected_rows, lane, state, reason, body, received_at, connector_id)
    ORDER BY event_id, body_sha256
), inserted AS (
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, account_id, transaction_ids, created_at_from,
         expected_rows, lane, state, reason, body, received_at, connector_id, settled_at)
    SELECT d.event_id, d.body_sha256, d.event, d.item_id, d.account_id, d.transaction_ids::uuid[],
           d.created_at_from, d.expected_rows, d.lane, d.state, d.reason, d.body, d.received_at,
           d.connector_id, CASE WHEN d.state IN ('ignored', 'dead') THEN clock_timestamp() END
    FROM delivered d
    ORDER BY d.event_id, d.body_sha256
    ON CONFLICT (event_id, body_sha256) DO NOTHING
    RETURNING id, event_id, body_sha256, item_id, lane, state
), repeated AS MATERIALIZED (
    -- Mostly none. Materialized, so that new events are not looked up once more.
    SELECT d.* FROM delivered d
    WHERE d.state = 'pending'
      AND NOT EXISTS (SELECT FROM inserted i
                      WHERE i.event_id = d.event_id AND i.body_sha256 = d.body_sha256)
    ORDER BY d.event_id, d.body_sha256
), revivable AS (
    -- LATERAL with LIMIT: by index, whatever the statistics of a table say that has just grown.
    SELECT e.id, d.item_id, d.account_id, d.transaction_ids, d.created_at_from, d.expected_rows,
           d.connector_id
    FROM repeated d
    CROSS JOIN LATERAL (SELECT w.id FROM pluggy_sync.webhook_events w
                        WHERE w.event_id = d.event_id AND w.body_sha256 = d.body_sha256
                          AND w.state IN ('dead', 'ignored')
                        LIMIT 1
                        FOR UPDATE) AS e
), revived AS (
    -- With the ids as read now: an older release may have kept the event because it could not.
    UPDATE pluggy_sync.webhook_events e
    SET state = 'pending', reason = NULL, error_id = NULL, settled_at = NULL, ask_again_at = NULL,
        pending_since = clock_timestamp(), item_id = r.item_id, account_id = r.account_id,
        transaction_ids = r.transaction_ids::uuid[], created_at_from = r.created_at_from,
        expected_rows = r.expected_rows, connector_id = r.connector_id
    FROM revivable r
    WHERE e.id = r.id AND e.state IN ('dead', 'ignored')
    RETURNING e.id, e.event_id, e.body_sha256, e.item_id, e.lane, e.state
), stored AS (
    SELECT * FROM inserted UNION ALL SELECT * FROM revived
), announced AS (
    SELECT item_id, count(*) AS events, min(lane) AS lane
    FROM stored
    WHERE state = 'pending' AND item_id IS NOT NULL
    GROUP BY item_id
), bumped AS (
    INSERT INTO pluggy_sync.item_sync AS s (item_id, generation, lane, run_at)
    SELECT item_id, events, lane, now() FROM announced ORDER BY item_id
    ON CONFLICT (item_id) DO UPDATE
        SET generation = s.generation + excluded.generation,
            lane = least(s.lane, excluded.lane),
            run_at = least(s.run_at, excluded.run_at)
    RETURNING s.item_id, s.generation, s.lane, s.run_at = now() AS made_due
), leasable AS (
    -- By the first bump of an item: no event was counted before.
    INSERT INTO pluggy_sync.item_leases (item_id)
    SELECT b.item_id
    FROM bumped b
    JOIN announced a ON a.item_id = b.item_id AND a.events = b.generation
    ORDER BY b.item_id
    ON CONFLICT (item_id) DO NOTHING
)
SELECT d.event_id, d.body_sha256, s.id IS NOT NULL AS is_new, s.id,
       coalesce(b.made_due OR before.lane > 0, false) AS made_due
FROM delivered d
LEFT JOIN stored s USING (event_id, body_sha256)
LEFT JOIN bumped b ON b.item_id = s.item_id
-- As this statement's snapshot knows them: a bump that commits meanwhile costs a wake too many.
LEFT JOIN LATERAL (SELECT i.lane FROM pluggy_sync.item_sync i
                   WHERE i.item_id = b.item_id AND b.lane = 0 AND NOT b.made_due
                   LIMIT 1) AS before ON true;
