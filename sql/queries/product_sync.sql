-- name: mark_complete
-- params: item_id, product, scope_id, complete_read_at?, source_updated_at?, fingerprint? = null,
--     read_seq?, incomplete_reason? = null, has_rows? = null, token? = null, lease_for? = null
-- returns: one? Marked
-- A complete read of a step has committed: see pluggy_sync.mark_complete. token: outside of a page
-- transaction, or first in it, so that it checks and renews the lease itself. Returns the time and
-- the item's generation; no row: the lease is another worker's.
SELECT clock_timestamp() AS now,
       pluggy_sync.mark_complete($1, $2, $3, $4, $5, NULL, NULL, $6, NULL, $7, $8, $9) AS generation
WHERE pluggy_sync.renew_lease($1, $10, $11);

-- name: complete_transactions
-- params: item_id, account_id, complete_read_at?, source_updated_at?, read_up_to?, read_since?,
--     read_seq?, walked, page_rows, narrow_for, overlap, collected_as?, has_new_rows? = null,
--     token? = null, lease_for? = null
-- returns: one? Marked
-- A complete read of an account's transactions has committed: see pluggy_sync.complete_transactions.
-- token, and what it returns: as for mark_complete.
SELECT clock_timestamp() AS now,
       pluggy_sync.complete_transactions($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                                         $13) AS generation
WHERE pluggy_sync.renew_lease($1, $14, $15);

-- name: load_due_overlaps
-- params: limit
-- returns: many DueReconciliation
-- Items of which an overlap is to be read again; due_at: the latest of those. readable: without a
-- consent every list is empty, which proves nothing; then the next delta reads it.
WITH due AS (
    SELECT item_id, max(wide_by) AS due_at FROM pluggy_sync.product_sync
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
-- params: item_ids, due_ats
-- returns: none
-- They are an event by now; the read itself sets the next one. due_ats, here and below: as they were
-- loaded, for what became due since is another order.
UPDATE pluggy_sync.product_sync p SET wide_ordered = true
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE p.item_id = d.item_id AND p.wide_by <= d.due_at AND NOT p.wide_ordered;

-- name: expect_first_rows
-- params: item_id, product, scope_id, found?, collected_as?
-- returns: none
-- After a complete read: see pluggy_sync.expect_first_rows.
SELECT pluggy_sync.expect_first_rows($1, $2, $3, $4, $5);

-- name: load_due_confirmations
-- params: limit
-- returns: many DueReconciliation
-- Items of which an empty first list is to be read again; due_at: the latest of those.
SELECT item_id, max(confirm_at) AS due_at, true AS readable
FROM pluggy_sync.product_sync WHERE confirm_at <= now()
GROUP BY item_id ORDER BY 2 LIMIT $1;

-- name: end_confirmations
-- params: item_ids, due_ats
-- returns: none
-- They are an event by now; the read itself sets the next one.
UPDATE pluggy_sync.product_sync p SET confirm_at = NULL
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE p.item_id = d.item_id AND p.confirm_at <= d.due_at;

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
