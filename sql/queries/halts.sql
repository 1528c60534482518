-- name: halt
-- params: failure_code, advice, probe_every
-- returns: value
-- Parks everything: the failure is about us, not about an item. Also what died of it, or of what
-- everything was halted by before, is made due again, from five minutes before the halt on. Returns how
-- many events that were. The row of halts is locked first, as in resume.
WITH before AS (
    SELECT failure_code FROM pluggy_sync.halts FOR UPDATE
), halted AS (
    UPDATE pluggy_sync.halts h
    SET halted_at = coalesce(h.halted_at, now()), failure_code = $1, advice = $2, probe_every = $3,
        probe_at = now() + $3::interval
    FROM before b
    RETURNING ARRAY[$1, b.failure_code] AS codes, h.halted_at - interval '5 minutes' AS since
), steps AS (
    UPDATE pluggy_sync.product_sync p
    SET dead_at = NULL, dead_seq = NULL, attempts = 0, failing_since = NULL, failed_at = NULL,
        next_try_at = NULL
    FROM halted h
    WHERE p.failure_code = ANY (h.codes) AND p.failed_at > h.since
    RETURNING p.item_id
)
SELECT count(*) AS revived FROM pluggy_sync.revive_events(
    'dead',
    ARRAY(SELECT e.id FROM halted h
          JOIN pluggy_sync.webhook_events e ON e.reason = ANY (h.codes)
          WHERE e.state = 'dead' AND e.settled_at > h.since),
    ARRAY(SELECT item_id FROM steps));

-- name: judge_items_failing_alike
-- params: item_id, failure_code, items
-- returns: one? Verdict
-- nullable: others
-- Whether the item just refused is one of so many stored ones whose own read failed with one code in
-- the last five minutes, while nothing at all was read since the first of them; and a few other
-- stored items, to be read before that is believed. Items that are not stored prove nothing, because
-- anybody can name such ids.
WITH failing AS (
    SELECT item_id, failed_at FROM pluggy_sync.product_sync
    WHERE product = 'items' AND failure_code = $2 AND failed_at > now() - interval '5 minutes'
), alike AS (
    SELECT f.item_id, f.failed_at
    FROM failing f
    JOIN pluggy.items i ON i.id = f.item_id AND i.deleted_at IS NULL
), counted AS (
    SELECT count(*) AS items, min(failed_at) AS since, bool_or(item_id = $1) AS is_stored FROM alike
), judged AS (
    SELECT CASE WHEN is_stored AND items >= $3 THEN NOT EXISTS (
               SELECT FROM pluggy_sync.product_sync p WHERE p.complete_read_at > counted.since)
           ELSE false END AS are_alike
    FROM counted
)
SELECT are_alike, CASE WHEN are_alike THEN ARRAY(
    SELECT i.id FROM pluggy.items i
    WHERE i.deleted_at IS NULL AND NOT EXISTS (SELECT FROM alike a WHERE a.item_id = i.id)
    ORDER BY random() LIMIT 3) END AS others
FROM judged;

-- name: claim_halt_probe
-- returns: value?
-- What everything is halted by, if a probe is due now; it is then due again after the pause. While
-- Pluggy is down the probe is an item that is due (claim_probe_item), if there is one.
UPDATE pluggy_sync.halts SET probe_at = now() + probe_every
WHERE halted_at IS NOT NULL AND probe_at <= now()
  AND (failure_code <> 'pluggy_down' OR NOT EXISTS (
      SELECT FROM pluggy_sync.item_sync s JOIN pluggy_sync.item_leases l USING (item_id)
      WHERE s.run_at <= now() AND l.until <= now()))
RETURNING failure_code;

-- name: probe_soon
-- returns: none
-- A worker starts, maybe with other keys or as a newer release: what is halted or parked is probed
-- now.
WITH parked AS (
    UPDATE pluggy_sync.parked_products SET probe_at = least(probe_at, now())
)
UPDATE pluggy_sync.halts SET probe_at = least(probe_at, now()) WHERE halted_at IS NOT NULL;

-- name: resume
-- returns: value?
-- A probe has answered: everything goes on. Also what claims under way at the halt gave up on after it
-- is made due again, as by the halt itself.
WITH halted AS (
    SELECT failure_code, halted_at - interval '5 minutes' AS since FROM pluggy_sync.halts
    WHERE halted_at IS NOT NULL
    FOR UPDATE
), steps AS (
    UPDATE pluggy_sync.product_sync p
    SET dead_at = NULL, dead_seq = NULL, attempts = 0, failing_since = NULL, failed_at = NULL,
        next_try_at = NULL
    FROM halted h
    WHERE p.failure_code = h.failure_code AND p.failed_at > h.since
    RETURNING p.item_id
), revived AS (
    SELECT count(*) AS events FROM pluggy_sync.revive_events(
        'dead',
        ARRAY(SELECT e.id FROM halted h
              JOIN pluggy_sync.webhook_events e ON e.reason = h.failure_code
              WHERE e.state = 'dead' AND e.settled_at > h.since),
        ARRAY(SELECT item_id FROM steps))
)
UPDATE pluggy_sync.halts
SET halted_at = NULL, failure_code = NULL, advice = NULL, probe_every = NULL,
    probe_at = NULL, resumed_at = now()
WHERE halted_at IS NOT NULL AND (SELECT events FROM revived) >= 0
RETURNING resumed_at;
