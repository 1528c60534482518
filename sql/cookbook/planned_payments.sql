-- What is announced and not booked: planned payments, instalments to come, and rows that are pending.
-- $1: a clientUserId, null for all; $2: the first day.
SELECT t.posted_on, t.signed_currency_code AS currency, t.signed_amount, t.description, t.is_future,
       t.is_pending, t.item_id, t.account_id, t.id
FROM pluggy_live.transactions t
WHERE ($1::text IS NULL
       OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND t.posted_on >= $2::date AND (t.is_future OR t.is_pending) AND t.deletion_flagged_at IS NULL
ORDER BY 1, 2, t.id;
