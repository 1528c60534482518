-- Payments that come once a month: the same text from the same account, one row in each of three months or
-- more.
-- $1: a clientUserId, null for all; $2: the first day.
SELECT t.item_id, t.account_id, t.description, t.signed_currency_code AS currency, count(*) AS months,
       round(avg(-t.signed_amount), 2) AS usual, min(-t.signed_amount) AS cheapest,
       max(-t.signed_amount) AS dearest, max(t.posted_on) AS last_on
FROM pluggy_live.transactions t
WHERE ($1::text IS NULL
       OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND t.posted_on >= $2::date AND t.is_future IS NOT TRUE AND t.deletion_flagged_at IS NULL
  AND t.signed_amount < 0
  AND coalesce(t.category_id, '') NOT LIKE '04%' AND coalesce(t.category_id, '') <> '05100000'
GROUP BY 1, 2, 3, 4
HAVING count(*) >= 3 AND count(*) = count(DISTINCT date_trunc('month', t.posted_on))
ORDER BY months DESC, 4, usual DESC, 1, 2, 3;
