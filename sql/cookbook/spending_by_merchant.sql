-- Spending by merchant and currency; rows whose merchant is not known are the row with null.
-- $1: a clientUserId, null for all; $2: the first day.
SELECT t.merchant_name AS merchant, t.signed_currency_code AS currency, sum(-t.signed_amount) AS spent,
       count(*) AS transactions, max(t.posted_on) AS last_on
FROM pluggy_live.transactions t
WHERE ($1::text IS NULL
       OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND t.posted_on >= $2::date AND t.is_future IS NOT TRUE AND t.deletion_flagged_at IS NULL
  AND t.signed_amount < 0
  AND coalesce(t.category_id, '') NOT LIKE '04%' AND coalesce(t.category_id, '') <> '05100000'
GROUP BY 1, 2
ORDER BY 2, spent DESC, 1;
