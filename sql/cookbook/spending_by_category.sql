-- Spending by month, currency and category.
-- $1: a clientUserId, null for all; $2: the first day.
-- Own transfers and card bill payments move money and do not spend it: they are left out by their category.
-- A row without category counts, under null: whether it was such a transfer, nobody can say.
-- IS NOT TRUE: the planner would take "NOT t.is_future" for a narrow range of days.
SELECT date_trunc('month', t.posted_on)::date AS month, t.signed_currency_code AS currency, t.category,
       sum(-t.signed_amount) AS spent, count(*) AS transactions
FROM pluggy_live.transactions t
WHERE ($1::text IS NULL
       OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND t.posted_on >= $2::date AND t.is_future IS NOT TRUE AND t.deletion_flagged_at IS NULL
  AND t.signed_amount < 0
  AND coalesce(t.category_id, '') NOT LIKE '04%' AND coalesce(t.category_id, '') <> '05100000'
GROUP BY 1, 2, 3
ORDER BY 1 DESC, 2, spent DESC, 3;
