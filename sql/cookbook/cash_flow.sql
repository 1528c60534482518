-- Money in and money out by month and currency.
-- $1: a clientUserId, null for all; $2: the first day.
-- Own transfers and card bill payments are left out by their category. without_category counts the rows of
-- the sums that have none, such transfers among them perhaps. Refunds are money in.
SELECT date_trunc('month', t.posted_on)::date AS month, t.signed_currency_code AS currency,
       coalesce(sum(t.signed_amount) FILTER (WHERE t.signed_amount > 0), 0) AS money_in,
       coalesce(sum(-t.signed_amount) FILTER (WHERE t.signed_amount < 0), 0) AS money_out,
       sum(t.signed_amount) AS net,
       count(*) FILTER (WHERE t.category_id IS NULL) AS without_category
FROM pluggy_live.transactions t
WHERE ($1::text IS NULL
       OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND t.posted_on >= $2::date AND t.is_future IS NOT TRUE AND t.deletion_flagged_at IS NULL
  AND coalesce(t.category_id, '') NOT LIKE '04%' AND coalesce(t.category_id, '') <> '05100000'
GROUP BY 1, 2
ORDER BY 1 DESC, 2;
