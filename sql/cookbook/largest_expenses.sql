-- The ten largest expenses of each currency.
-- $1: a clientUserId, null for all; $2: the first day.
WITH expenses AS (
    SELECT t.item_id, t.id, t.posted_on, t.description, t.category, t.signed_currency_code AS currency,
           -t.signed_amount AS spent,
           row_number() OVER (PARTITION BY t.signed_currency_code ORDER BY t.signed_amount, t.id) AS place
    FROM pluggy_live.transactions t
    WHERE ($1::text IS NULL
           OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
      AND t.posted_on >= $2::date AND t.is_future IS NOT TRUE AND t.deletion_flagged_at IS NULL
      AND t.signed_amount < 0
      AND coalesce(t.category_id, '') NOT LIKE '04%' AND coalesce(t.category_id, '') <> '05100000'
)
SELECT currency, place, spent, posted_on, description, category, item_id, id
FROM expenses
WHERE place <= 10
ORDER BY 1, 2;
