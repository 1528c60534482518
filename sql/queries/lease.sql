-- name: claim_woken_item
-- params: item_id, lease_for
-- returns: one? ClaimedItem
-- Leases the item that was woken for, if it is due in the live lane. has_open_runs, of every claim:
-- the last holder has left runs open. One that it opens meanwhile renews the lease, which fails this
-- claim. synchronous_commit, of the claims of due items: a claim is not awaited on disk. Others see it
-- at once. A crash that loses it leaves the item due, and its token fails at the fence; whatever was
-- committed after it is further on in the WAL, so where that is kept, the claim is kept too.
WITH due AS (
    SELECT s.item_id, s.lane
    FROM pluggy_sync.item_sync s
    JOIN pluggy_sync.item_leases l USING (item_id)
    -- IS TRUE: by the item. Postgres may expect that nothing is due, and would read all that is by now.
    WHERE s.item_id = $1 AND (s.lane = 0 AND s.run_at <= now()) IS TRUE AND l.until <= now()
      AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
    FOR UPDATE OF s, l SKIP LOCKED
)
UPDATE pluggy_sync.item_leases l
SET token = gen_random_uuid(), until = clock_timestamp() + $2::interval
FROM due
WHERE l.item_id = due.item_id AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING l.item_id, l.token, due.lane, clock_timestamp() AS now,
          EXISTS (SELECT FROM pluggy_sync.runs r
                  WHERE r.item_id = l.item_id AND r.finished_at IS NULL) AS has_open_runs;

-- name: claim_best_item
-- params: lease_for, lowest_lane
-- returns: one? ClaimedItem
-- Leases the due item of the best lane that waits longest there. lowest_lane keeps the reserve of
-- slots for live work. The lanes are tried one after the other, so that items that are not due in a
-- better lane are never scanned.
WITH due AS (
    SELECT found.item_id, found.lane
    FROM (VALUES (0), (1), (2), (3)) AS lanes(lane)
    CROSS JOIN LATERAL (
        SELECT s.item_id, s.lane
        FROM pluggy_sync.item_sync s
        JOIN pluggy_sync.item_leases l USING (item_id)
        WHERE s.lane = lanes.lane AND lanes.lane <= $2::smallint
          AND s.run_at <= now() AND l.until <= now()
          AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
        ORDER BY s.run_at
        LIMIT 1
        FOR UPDATE OF s, l SKIP LOCKED
    ) AS found
    LIMIT 1
)
UPDATE pluggy_sync.item_leases l
SET token = gen_random_uuid(), until = clock_timestamp() + $1::interval
FROM due
WHERE l.item_id = due.item_id AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING l.item_id, l.token, due.lane, clock_timestamp() AS now,
          EXISTS (SELECT FROM pluggy_sync.runs r
                  WHERE r.item_id = l.item_id AND r.finished_at IS NULL) AS has_open_runs;

-- name: claim_oldest_item
-- params: lease_for
-- returns: one? ClaimedItem
-- Leases the item that has been due longest in any lane, so that no lane starves. Only that of the
-- four heads of lanes is locked; if another claim has it, none is leased.
WITH oldest AS (
    SELECT found.item_id
    FROM (VALUES (0), (1), (2), (3)) AS lanes(lane)
    CROSS JOIN LATERAL (
        SELECT s.item_id, s.run_at
        FROM pluggy_sync.item_sync s
        JOIN pluggy_sync.item_leases l USING (item_id)
        WHERE s.lane = lanes.lane AND s.run_at <= now() AND l.until <= now()
          AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
        ORDER BY s.run_at
        LIMIT 1
    ) AS found
    ORDER BY found.run_at
    LIMIT 1
), due AS (
    SELECT s.item_id, s.lane
    FROM oldest
    JOIN pluggy_sync.item_sync s USING (item_id)
    JOIN pluggy_sync.item_leases l USING (item_id)
    WHERE s.run_at <= now() AND l.until <= now()
    FOR UPDATE OF s, l SKIP LOCKED
)
UPDATE pluggy_sync.item_leases l
SET token = gen_random_uuid(), until = clock_timestamp() + $1::interval
FROM due
WHERE l.item_id = due.item_id AND set_config('synchronous_commit', 'off', true) = 'off'
RETURNING l.item_id, l.token, due.lane, clock_timestamp() AS now,
          EXISTS (SELECT FROM pluggy_sync.runs r
                  WHERE r.item_id = l.item_id AND r.finished_at IS NULL) AS has_open_runs;

-- name: claim_probe_item
-- params: lease_for
-- returns: one? ClaimedItem
-- Leases one due item although Pluggy is down, when a probe is due. The best lane first; a random
-- one of it, because the items that failed may be the ones that wait longest. Other halts are
-- probed without items (claim_halt_probe).
WITH probe AS (
    UPDATE pluggy_sync.halts SET probe_at = now() + probe_every
    WHERE halted_at IS NOT NULL AND failure_code = 'pluggy_down' AND probe_at <= now()
      AND EXISTS (SELECT FROM pluggy_sync.item_sync s JOIN pluggy_sync.item_leases l USING (item_id)
                  WHERE s.run_at <= now() AND l.until <= now())
    RETURNING 1
), due AS (
    SELECT s.item_id, s.lane
    FROM pluggy_sync.item_sync s
    JOIN pluggy_sync.item_leases l USING (item_id)
    WHERE s.run_at <= now() AND l.until <= now() AND EXISTS (SELECT FROM probe)
    ORDER BY s.lane, random()
    LIMIT 1
    FOR UPDATE OF s, l SKIP LOCKED
)
UPDATE pluggy_sync.item_leases l
SET token = gen_random_uuid(), until = clock_timestamp() + $1::interval
FROM due
WHERE l.item_id = due.item_id
RETURNING l.item_id, l.token, due.lane, clock_timestamp() AS now,
          EXISTS (SELECT FROM pluggy_sync.runs r
                  WHERE r.item_id = l.item_id AND r.finished_at IS NULL) AS has_open_runs;

-- name: fence
-- params: item_id, token, lease_for
-- returns: one? Fence
-- First statement of every page transaction: check, lock and heartbeat in one. 0 rows: fenced off,
-- roll back. A session that stalls inside its transaction is ended by the server after 15 s,
-- because it holds the lock that the next claim needs; one that stalls within a COPY by
-- end_stalled_copies. has_rejected, has_absent: whether rows of the
-- item are set aside, and whether a walk of it asks for rows by id, so that most pages need not say
-- which rows they have shown.
UPDATE pluggy_sync.item_leases
SET until = clock_timestamp() + $3::interval
WHERE item_id = $1 AND token = $2
RETURNING clock_timestamp() AS now,
          (SELECT generation FROM pluggy_sync.item_sync WHERE item_id = $1) AS generation,
          EXISTS (SELECT FROM pluggy_sync.rejected_rows WHERE item_id = $1) AS has_rejected,
          EXISTS (SELECT FROM pluggy_sync.account_walks
                  WHERE item_id = $1 AND read_at IS NOT NULL) AS has_absent,
          set_config('idle_in_transaction_session_timeout', '15s', true) AS stall_limit;

-- name: settle_item
-- params: item_id, token, generation, due_at?, lane, keep_for?, event_ids, states, reasons[?],
--     error_ids[?], ask_again_ats[?], run_id?, confirmings[?], confirming_sinces[?], visible_ats[?],
--     lowest_lane, sets_webhook_check, webhook_check_at?, run?, run_order
-- returns: one? Settled
-- nullable: next_item, has_check
-- Ends what a claim has done, if its token still holds: closes the run (as close_run takes it), each
-- event to its outcome, done_generation, when and in which lane the item is due next; frees the lease
-- unless a walk follows in this claim.
-- generation: that which was read; due_at null: nothing is left; keep_for null: the lease is freed.
-- visible_ats: null where no row changed. Events that waited for a walk count as visible when they are
-- settled, for its pages may be those of earlier claims. next_item: another one that is due, down to
-- the lowest lane; webhook_check_at: null is never.
-- The order of runs is waited for with the lease alone: no receiver waits for a lease, but it does for
-- an event that is delivered again and for the row of item_sync that it bumps.
WITH lease AS (
    UPDATE pluggy_sync.item_leases
    SET token = CASE WHEN $6::interval IS NOT NULL THEN token END,
        until = CASE WHEN $6::interval IS NOT NULL THEN clock_timestamp() + $6::interval
                     ELSE '-infinity' END
    WHERE item_id = $1 AND token = $2
    RETURNING item_id
), closed AS MATERIALIZED (
    SELECT pluggy_sync.close_run($19::jsonb, $20) FROM lease WHERE $19 IS NOT NULL
), events AS (
    UPDATE pluggy_sync.webhook_events e
    SET state = o.state, reason = o.reason, error_id = o.error_id, ask_again_at = o.ask_again_at,
        confirming = o.confirming, confirming_since = o.confirming_since,
        run_id = coalesce($12, e.run_id),
        visible_at = greatest(e.visible_at, o.visible_at,
            CASE WHEN e.state = 'walking' AND o.state = 'applied' THEN clock_timestamp() END),
        settled_at = CASE WHEN o.state IN ('applied', 'dead', 'ignored') THEN clock_timestamp() END
    FROM unnest($7::bigint[], $8::text[], $9::text[], $10::text[], $11::timestamptz[],
                $13::text[], $14::timestamptz[], $15::timestamptz[])
        AS o(id, state, reason, error_id, ask_again_at, confirming, confirming_since, visible_at),
        lease
    -- IS TRUE: by the ids. Postgres may expect no open event, and would read all that are open by now.
    WHERE e.id = o.id AND (e.state IN ('pending', 'walking')) IS TRUE
      AND (SELECT count(*) FROM closed) >= 0
    RETURNING e.id, e.state
), asked AS (
    DELETE FROM pluggy_sync.id_progress p USING events e
    WHERE p.event_row_id = e.id AND e.state IN ('applied', 'dead', 'ignored')
)
UPDATE pluggy_sync.item_sync s
SET done_generation = $3,
    run_at = CASE WHEN s.generation > $3 THEN now() ELSE $4::timestamptz END,
    lane = CASE WHEN s.generation > $3 THEN s.lane WHEN $4 IS NULL THEN 3 ELSE $5::smallint END
FROM lease
WHERE s.item_id = lease.item_id AND (SELECT count(*) FROM events) >= 0
RETURNING s.generation, coalesce(s.run_at <= clock_timestamp(), false) AS due, s.lane,
          pluggy_sync.next_due_item($16) AS next_item,
          CASE WHEN $17::boolean THEN pluggy_sync.set_webhook_check($1, $18) END AS has_check;

-- name: settle_events
-- params: item_id, token, event_ids, run_id, visible_ats[?]
-- returns: value?
-- Settles events as applied while their claim goes on, if its token still holds: no row is returned
-- if not. Changes event rows only; the lease, run_at and done_generation belong to settle_item.
WITH lease AS (
    SELECT item_id FROM pluggy_sync.item_leases WHERE item_id = $1 AND token = $2 FOR UPDATE
), events AS (
    UPDATE pluggy_sync.webhook_events e
    SET state = 'applied', reason = NULL, error_id = NULL, confirming = NULL, confirming_since = NULL,
        run_id = $4, settled_at = clock_timestamp(),
        visible_at = greatest(e.visible_at, o.visible_at,
            CASE WHEN e.state = 'walking' THEN clock_timestamp() END)
    FROM unnest($3::bigint[], $5::timestamptz[]) AS o(id, visible_at), lease
    WHERE e.id = o.id AND (e.state IN ('pending', 'walking')) IS TRUE  -- as in settle_item
    RETURNING e.id
), asked AS (
    DELETE FROM pluggy_sync.id_progress p USING events e WHERE p.event_row_id = e.id
)
SELECT item_id FROM lease;

-- name: release_item
-- params: item_id, token
-- returns: none
-- Gives an item back without settling anything: it stays due, no attempt is spent.
UPDATE pluggy_sync.item_leases SET token = NULL, until = '-infinity'
WHERE item_id = $1 AND token = $2
RETURNING item_id;

-- name: next_due_item
-- params: lowest_lane
-- returns: value?
-- The item that would be claimed next, if there is one.
SELECT pluggy_sync.next_due_item($1) AS item_id;
