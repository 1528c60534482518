-- name: halt
-- Parks everything: the failure is about us, not about an item. Also what died of it in the last five
-- minutes is made due again, with locks in the order of accept_events. $1 failure code, $2 what to do about it, $3 pause between probes.
WITH halted AS (
    UPDATE pluggy_sync.halts
    SET halted_at = coalesce(halted_at, now()), failure_code = $1, advice = $2, probe_every = $3,
        probe_at = now() + $3::interval
    RETURNING halted_at
), steps AS (
    UPDATE pluggy_sync.product_sync p
    SET dead_at = NULL, dead_seq = NULL, attempts = 0, failing_since = NULL, failed_at = NULL, next_try_at = NULL
    WHERE p.failure_code = $1 AND p.dead_at > now() - interval '5 minutes'
    RETURNING p.item_id
), revivable AS (
    SELECT id FROM pluggy_sync.webhook_events
    WHERE state = 'dead' AND reason = $1 AND settled_at > now() - interval '5 minutes'
    ORDER BY id
    FOR UPDATE
), revived AS (
    UPDATE pluggy_sync.webhook_events e
    SET state = 'pending', reason = NULL, error_id = NULL, settled_at = NULL, ask_again_at = NULL,
        pending_since = clock_timestamp()
    FROM revivable r
    WHERE e.id = r.id AND e.state = 'dead'
    RETURNING e.item_id, e.lane
), told AS (
    SELECT item_id, count(*) AS events, min(lane) AS lane FROM revived
    WHERE item_id IS NOT NULL GROUP BY item_id
)
-- Inserted, because that alone locks in the order given; every item of a dead event has its row.
INSERT INTO pluggy_sync.item_sync AS s (item_id, generation, lane, run_at)
SELECT item_id, events, lane, now() FROM told ORDER BY item_id
ON CONFLICT (item_id) DO UPDATE
    SET generation = s.generation + excluded.generation,
        lane = least(s.lane, excluded.lane),
        run_at = least(s.run_at, excluded.run_at);

-- name: count_items_failing_alike
-- Items whose step died of one code in the last five minutes, while no item at all completed the same
-- product since the first of them: then it is about us. $1 product, $2 failure code.
WITH alike AS (
    SELECT item_id, failed_at FROM pluggy_sync.product_sync
    WHERE product = $1 AND failure_code = $2 AND failed_at > now() - interval '5 minutes'
)
SELECT count(DISTINCT item_id) AS items,
       EXISTS (SELECT FROM pluggy_sync.product_sync p
               WHERE p.product = $1 AND p.stamped_at > (SELECT min(failed_at) FROM alike)) AS others_succeed
FROM alike;

-- name: resume
-- A probe has answered: everything goes on.
UPDATE pluggy_sync.halts
SET halted_at = NULL, failure_code = NULL, advice = NULL, probe_every = NULL,
    probe_at = NULL, resumed_at = now()
WHERE halted_at IS NOT NULL
RETURNING resumed_at;

-- name: load_halt_code
-- What halted everything; null while nothing is halted.
SELECT failure_code FROM pluggy_sync.halts WHERE halted_at IS NOT NULL;
