-- name: stamp_step
-- A complete read of a step has committed. The watermark only moves forward; what failed is over.
-- $1 item, $2 product, $3 account, $4 stamped_at, $5 source_updated_at, $6 watermark (null: keep),
-- $7 walked_at (null: keep), $8 fingerprint (null: keep), $9 walked_up_to (null: keep), $10 read_since
-- (null: all was read), which is that of the newest stamp.
-- A walk covers the recent days too. A list is complete in itself, transactions only when walked: what
-- was set aside before and was not met again is not there any more.
WITH not_met AS (
    DELETE FROM pluggy_sync.rejected_rows
    WHERE item_id = $1 AND product = $2 AND account_id = $3 AND rejected_at < $4::timestamptz
      AND ($2::text <> 'transactions' OR $7::timestamptz IS NOT NULL)
)
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, account_id, stamped_at, source_updated_at, watermark, walked_at,
     fingerprint, walked_up_to, read_since, recent_at, verified_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $7,
        CASE WHEN $2::text = 'transactions' THEN $7::timestamptz ELSE $4::timestamptz END)
ON CONFLICT (item_id, product, account_id) DO UPDATE SET
    stamped_at = greatest(p.stamped_at, excluded.stamped_at),
    source_updated_at = greatest(p.source_updated_at, excluded.source_updated_at),
    watermark = greatest(p.watermark, excluded.watermark),
    walked_at = greatest(p.walked_at, excluded.walked_at),
    walked_up_to = coalesce(excluded.walked_up_to, p.walked_up_to),
    read_since = CASE WHEN p.stamped_at > excluded.stamped_at THEN p.read_since
                      ELSE excluded.read_since END,
    recent_at = greatest(p.recent_at, excluded.recent_at),
    verified_at = greatest(p.verified_at, excluded.verified_at),
    fingerprint = coalesce(excluded.fingerprint, p.fingerprint),
    attempts = 0, failing_since = NULL, next_try_at = NULL, dead_at = NULL, deferred_since = NULL,
    failed_at = NULL, failure_class = NULL, failure_code = NULL, error_id = NULL,
    stale_reason = NULL;

-- name: record_failure
-- A try of a step has failed. $1 item, $2 product, $3 account, $4 class, $5 code, $6 errorId,
-- $7 attempts so far, $8 pause before the next try (null: dead), $9 when the try began.
-- An account or an investment that is buried has no steps: it may have been while this one was tried.
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, account_id, failure_class, failure_code, error_id, attempts, failing_since,
     failed_at, next_try_at, dead_at, stale_reason)
SELECT $1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::integer, now(), now(),
       now() + $8::interval, CASE WHEN $8::interval IS NULL THEN $9::timestamptz END, $5::text
WHERE NOT EXISTS (SELECT FROM pluggy.accounts
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pluggy.investments
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
ON CONFLICT (item_id, product, account_id) DO UPDATE SET
    failure_class = excluded.failure_class, failure_code = excluded.failure_code,
    error_id = excluded.error_id, attempts = excluded.attempts,
    failing_since = CASE WHEN p.dead_at IS NULL THEN coalesce(p.failing_since, now()) ELSE now() END,
    failed_at = now(), next_try_at = excluded.next_try_at, dead_at = excluded.dead_at,
    stale_reason = excluded.stale_reason;

-- name: defer_step
-- A step is put off without an attempt: a limit, or an answer that proves nothing yet.
-- $1 item, $2 product, $3 account, $4 reason, $5 pause (null: doubling with its age, 30 s to 1 h).
-- Not of what is buried, as in record_failure.
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, account_id, deferred_since, next_try_at, stale_reason)
SELECT $1::uuid, $2::text, $3::uuid, CASE WHEN $5::interval IS NULL THEN now() END,
       now() + coalesce($5::interval, interval '30 seconds'),
       CASE WHEN $5::interval IS NULL THEN $4::text END
WHERE NOT EXISTS (SELECT FROM pluggy.accounts
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pluggy.investments
                  WHERE item_id = $1 AND id = $3 AND deleted_at IS NOT NULL)
ON CONFLICT (item_id, product, account_id) DO UPDATE SET
    deferred_since = CASE WHEN $5::interval IS NULL THEN coalesce(p.deferred_since, now())
                          ELSE p.deferred_since END,
    next_try_at = now() + coalesce($5::interval, least(interval '1 hour',
        greatest(interval '30 seconds', now() - coalesce(p.deferred_since, now())))),
    stale_reason = CASE WHEN $5::interval IS NULL THEN excluded.stale_reason
                        ELSE p.stale_reason END,
    dead_at = NULL;

-- name: end_deferral
-- A question has been answered, so what was put off is due no later. $1 item, $2 product, $3 account.
UPDATE pluggy_sync.product_sync
SET deferred_since = NULL, next_try_at = NULL, stale_reason = NULL, attempts = 0,
    failing_since = NULL, dead_at = NULL, failed_at = NULL, failure_class = NULL,
    failure_code = NULL, error_id = NULL
WHERE item_id = $1 AND product = $2 AND account_id = $3
  AND (deferred_since IS NOT NULL OR next_try_at IS NOT NULL OR attempts > 0);

-- name: is_put_off_for
-- Whether a step's answers have proven nothing for so long. $1 item, $2 product, $3 account,
-- $4 how long.
SELECT coalesce(bool_or(deferred_since <= now() - $4::interval), false) AS is_put_off
FROM pluggy_sync.product_sync WHERE item_id = $1 AND product = $2 AND account_id = $3;
