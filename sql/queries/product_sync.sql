-- name: mark_complete
-- params: item_id, product, scope_id, complete_read_at?, source_updated_at?, watermark? = null,
--     walked_at? = null, fingerprint? = null, read_since? = null, read_seq?,
--     incomplete_reason? = null, has_rows? = null, token? = null, lease_for? = null
-- returns: one? Marked
-- A complete read of a step has committed; what failed is over. It replaces the marks of reads that
-- started before it, whatever their values, and none of a read that started later: so an odd time
-- of Pluggy lives as long as one read. walked_at null: no walk; fingerprint null: keep; read_since
-- null: all was read; read_seq: the place of its start. A walk covers the recent days too. A list
-- is complete in itself, transactions only when walked: what was set aside before and was not met
-- again is not there any more. incomplete_reason: why the list may have more rows; then it verifies
-- nothing, and what was set aside stays. has_rows: it had some, so that none are awaited any more.
-- token: outside of a page transaction, so that it checks and renews the lease itself. Returns the
-- time and the item's generation; no row: the lease is another worker's.
WITH fence AS (
    UPDATE pluggy_sync.item_leases SET until = clock_timestamp() + $14::interval
    WHERE item_id = $1 AND token = $13::uuid
    RETURNING token
), holder AS MATERIALIZED (
    SELECT token FROM fence UNION ALL SELECT NULL WHERE $13::uuid IS NULL
), not_met AS (
    DELETE FROM pluggy_sync.rejected_rows
    WHERE item_id = $1 AND product = $2 AND scope_id = $3 AND rejected_at < $4::timestamptz
      AND ($2::text <> 'transactions' OR $7::timestamptz IS NOT NULL)
      AND $11::text IS NULL AND EXISTS (SELECT FROM holder)
)
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, scope_id, complete_read_at, source_updated_at, watermark, read_since, read_seq,
     walked_at, walked_seq, recent_at, recent_seq, verified_at, fingerprint, first_read_at,
     incomplete_reason)
SELECT $1, $2, $3, $4::timestamptz, $5, $6, $9, $10::bigint, $7::timestamptz, w.walked_seq, $7,
       w.walked_seq,
       CASE WHEN $2::text = 'transactions' THEN $7 WHEN $11::text IS NULL THEN $4 END, $8,
       $4::timestamptz, $11::text
FROM (SELECT CASE WHEN $7::timestamptz IS NOT NULL THEN $10::bigint END AS walked_seq) AS w
CROSS JOIN holder
ON CONFLICT (item_id, product, scope_id) DO UPDATE SET
    (complete_read_at, source_updated_at, watermark, read_since, read_seq) = (
        SELECT r.complete_read_at, r.source_updated_at, r.watermark, r.read_since, r.read_seq
        -- A list that is read again because its owner is gone is given no time: the mark stays.
        FROM (VALUES (1, excluded.complete_read_at,
                      coalesce(excluded.source_updated_at, p.source_updated_at),
                      excluded.watermark, excluded.read_since, excluded.read_seq),
                     (2, p.complete_read_at, p.source_updated_at, p.watermark, p.read_since, p.read_seq))
            AS r(place, complete_read_at, source_updated_at, watermark, read_since, read_seq)
        ORDER BY r.read_seq DESC NULLS LAST, r.place LIMIT 1),
    (recent_at, recent_seq) = (
        SELECT r.recent_at, r.recent_seq
        FROM (VALUES (1, excluded.recent_at, excluded.recent_seq), (2, p.recent_at, p.recent_seq))
            AS r(place, recent_at, recent_seq)
        ORDER BY r.recent_seq DESC NULLS LAST, r.recent_at IS NULL, r.place LIMIT 1),
    -- Walks of an account follow each other, and so do the reads of a list.
    walked_at = coalesce(excluded.walked_at, p.walked_at),
    walked_seq = coalesce(excluded.walked_seq, p.walked_seq),
    verified_at = coalesce(excluded.verified_at, p.verified_at),
    fingerprint = coalesce(excluded.fingerprint, p.fingerprint),
    first_read_at = CASE WHEN p.complete_read_at IS NULL THEN excluded.first_read_at
                         ELSE p.first_read_at END,
    incomplete_reason = excluded.incomplete_reason,
    confirm_at = CASE WHEN $12::boolean THEN NULL ELSE p.confirm_at END,
    awaits_rows = p.awaits_rows AND $12::boolean IS NOT TRUE,
    attempts = 0, failing_since = NULL, next_try_at = NULL, dead_at = NULL, dead_seq = NULL,
    deferred_since = NULL, failed_at = NULL, failure_class = NULL, failure_code = NULL, error_id = NULL,
    failure_endpoint = NULL, stale_reason = NULL, parked_at = NULL
RETURNING clock_timestamp() AS now,
          (SELECT generation FROM pluggy_sync.item_sync WHERE item_id = $1) AS generation;

-- name: load_watermark
-- params: item_id, account_id
-- returns: value?
SELECT watermark FROM pluggy_sync.product_sync
WHERE item_id = $1 AND product = 'transactions' AND scope_id = $2;

-- name: note_overlap
-- params: item_id, account_id, started_at?, pluggy_started_at?, narrow, walked, free_rows,
--     narrow_for, overlap
-- returns: none
-- After the stamp of a read of transactions: for how long deltas may start after the overlap, and
-- by when all of it is read again. Only if it has more rows than a page, else reading it costs no
-- more; of a first walk the rows show up late, so it is read again whatever it has. narrow: whether
-- the read was; free_rows: so many rows cost no more; narrow_for: how long deltas may be narrow.
WITH step AS (
    SELECT watermark FROM pluggy_sync.product_sync
    WHERE item_id = $1 AND product = 'transactions' AND scope_id = $2
), overlap AS (
    SELECT EXISTS (
        SELECT FROM pluggy.transactions t
        WHERE t.item_id = $1 AND t.account_id = $2 AND t.source_created_at >= s.watermark - $9::interval
        OFFSET $7::integer) AS is_long
    FROM step s
)
UPDATE pluggy_sync.product_sync p
SET read_up_to = $4,
    narrow_until = CASE
        WHEN $5::boolean THEN p.narrow_until
        WHEN o.is_long AND NOT $6::boolean
            THEN least(clock_timestamp() + $8::interval, $3::timestamptz + $9::interval) END,
    wide_by = CASE
        WHEN $5 OR p.wide_by > $3 AND p.wide_by <= $3 + $9 THEN p.wide_by
        WHEN o.is_long THEN $3 + $9 END,
    wide_ordered = p.wide_ordered
        AND coalesce($5 OR p.wide_by > $3 AND p.wide_by <= $3 + $9, false)
FROM overlap o
WHERE p.item_id = $1 AND p.product = 'transactions' AND p.scope_id = $2;

-- name: load_due_overlaps
-- params: limit
-- returns: many DueReconciliation
-- Items of which an overlap is to be read again. readable: without a consent every list is empty,
-- which proves nothing; then the next delta reads it.
WITH due AS (
    SELECT item_id, min(wide_by) AS due_at FROM pluggy_sync.product_sync
    WHERE wide_by <= now() AND NOT wide_ordered
    GROUP BY item_id ORDER BY 2 LIMIT $1
)
SELECT d.item_id, d.due_at,
       i.id IS NOT NULL AND i.execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED'
           AND coalesce(i.consent_expires_at > now(), true) AS readable
FROM due d
LEFT JOIN pluggy.items i ON i.id = d.item_id AND i.deleted_at IS NULL
ORDER BY d.due_at;

-- name: end_overlaps
-- params: item_ids
-- returns: none
-- They are an event by now; the read itself sets the next one.
UPDATE pluggy_sync.product_sync SET wide_ordered = true
WHERE item_id = ANY ($1::uuid[]) AND wide_by <= now() AND NOT wide_ordered;

-- name: expect_first_rows
-- params: item_id, product, scope_id, found?, collected_as?
-- returns: none
-- After a complete read: a list that has been empty since its first read is read again 5 s,
-- 30 s, 2 min and 5 min after that, unless Pluggy does not collect the product for this item at
-- all. found: whether there were rows (null: the stored rows decide); collected_as: Pluggy's
-- name of the product (null: it is always collected).
WITH rechecks AS (
    SELECT p.first_read_at, p.complete_read_at,
           NOT coalesce($4::boolean, EXISTS (
               SELECT FROM pluggy.transactions t WHERE t.item_id = $1 AND t.account_id = $3))
           AND NOT EXISTS (SELECT FROM pluggy.items i
                           WHERE i.id = $1 AND NOT $5::text = ANY (i.products)) AS is_awaited
    FROM pluggy_sync.product_sync p
    WHERE p.item_id = $1 AND p.product = $2 AND p.scope_id = $3
      AND (p.awaits_rows OR p.first_read_at = p.complete_read_at)
), next AS (
    SELECT (SELECT min(l.first_read_at + after)
            FROM unnest(ARRAY['5 s', '30 s', '2 min', '5 min']::interval[]) AS after
            WHERE l.is_awaited AND l.first_read_at + after > l.complete_read_at) AS confirm_at
    FROM rechecks l
)
UPDATE pluggy_sync.product_sync p
SET confirm_at = next.confirm_at, awaits_rows = next.confirm_at IS NOT NULL
FROM next
WHERE p.item_id = $1 AND p.product = $2 AND p.scope_id = $3
  AND (p.awaits_rows OR next.confirm_at IS NOT NULL);

-- name: load_due_confirmations
-- params: limit
-- returns: many DueReconciliation
-- Items of which an empty first list is to be read again.
SELECT item_id, min(confirm_at) AS due_at, true AS readable
FROM pluggy_sync.product_sync WHERE confirm_at <= now()
GROUP BY item_id ORDER BY 2 LIMIT $1;

-- name: end_confirmations
-- params: item_ids
-- returns: none
-- They are an event by now; the read itself sets the next one.
UPDATE pluggy_sync.product_sync SET confirm_at = NULL
WHERE item_id = ANY ($1::uuid[]) AND confirm_at <= now();

-- name: record_failure
-- params: item_id, product, scope_id, failure_class, code, error_id?, attempts, pause?, tried_at,
--     tried_seq?, endpoint?
-- returns: none
-- A try of a step has failed. attempts: so far; pause: before the next try (null: dead); tried_seq:
-- the place of the try. It dies of what it was tried for: an event with a higher pending_seq has a
-- try of its own. An account or an investment that is tombstoned has no steps: it may have been
-- while this one was tried.
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, scope_id, failure_class, failure_code, error_id, attempts, failing_since,
     failed_at, next_try_at, dead_at, dead_seq, stale_reason, failure_endpoint)
SELECT $1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::integer, now(), now(),
       now() + $8::interval, CASE WHEN $8::interval IS NULL THEN $9::timestamptz END,
       CASE WHEN $8::interval IS NULL THEN $10::bigint END, $5::text, $11::text
WHERE NOT EXISTS (SELECT FROM pluggy.accounts
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pluggy.investments
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
ON CONFLICT (item_id, product, scope_id) DO UPDATE SET
    failure_class = excluded.failure_class, failure_code = excluded.failure_code,
    error_id = excluded.error_id, attempts = excluded.attempts,
    failing_since = CASE WHEN p.dead_at IS NULL THEN coalesce(p.failing_since, now()) ELSE now() END,
    failed_at = now(), next_try_at = excluded.next_try_at, dead_at = excluded.dead_at,
    dead_seq = excluded.dead_seq, stale_reason = excluded.stale_reason,
    failure_endpoint = excluded.failure_endpoint;

-- name: defer_step
-- params: item_id, product, scope_id, reason, pause?
-- returns: none
-- A step is put off without an attempt: a limit, or an answer that proves nothing yet. pause null:
-- doubling with its age, 30 s to 1 h. Not of what is tombstoned, as in record_failure.
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, scope_id, deferred_since, next_try_at, stale_reason)
SELECT $1::uuid, $2::text, $3::uuid, CASE WHEN $5::interval IS NULL THEN now() END,
       now() + coalesce($5::interval, interval '30 seconds'),
       CASE WHEN $5::interval IS NULL THEN $4::text END
WHERE NOT EXISTS (SELECT FROM pluggy.accounts
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pluggy.investments
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
ON CONFLICT (item_id, product, scope_id) DO UPDATE SET
    deferred_since = CASE WHEN $5::interval IS NULL THEN coalesce(p.deferred_since, now())
                          ELSE p.deferred_since END,
    next_try_at = now() + coalesce($5::interval, least(interval '1 hour',
        greatest(interval '30 seconds', now() - coalesce(p.deferred_since, now())))),
    stale_reason = CASE WHEN $5::interval IS NULL THEN excluded.stale_reason
                        ELSE p.stale_reason END,
    dead_at = NULL, dead_seq = NULL;

-- name: note_own_limit
-- params: item_id, product, scope_id, code, endpoint?, error_id?
-- returns: none
-- A step is put off by a limit of its own, not by that of all calls: shown with code and endpoint.
UPDATE pluggy_sync.product_sync
SET stale_reason = $4, failure_code = $4, failure_endpoint = $5, error_id = $6
WHERE item_id = $1 AND product = $2 AND scope_id = $3;

-- name: end_deferral
-- params: item_id, product, scope_id
-- returns: none
-- A question has been answered, so what was put off is due no later.
UPDATE pluggy_sync.product_sync
SET deferred_since = NULL, next_try_at = NULL, stale_reason = NULL, attempts = 0,
    failing_since = NULL, dead_at = NULL, dead_seq = NULL, failed_at = NULL, failure_class = NULL,
    failure_code = NULL, error_id = NULL
WHERE item_id = $1 AND product = $2 AND scope_id = $3
  AND (deferred_since IS NOT NULL OR next_try_at IS NOT NULL OR attempts > 0);

-- name: is_deferred_for
-- params: item_id, product, scope_id, how_long
-- returns: value?
-- Whether a step's answers have proven nothing for so long.
SELECT coalesce(bool_or(deferred_since <= now() - $4::interval), false) AS is_deferred
FROM pluggy_sync.product_sync WHERE item_id = $1 AND product = $2 AND scope_id = $3;
