-- Balance of each account at the end of each day, and the movements of the day.
-- $1: a clientUserId, null for all; $2: the first day.
SELECT d.item_id, d.account_id, d.day, d.currency_code AS currency, d.signed_balance, d.net_amount,
       d.reported_on IS NULL AS is_computed
FROM pluggy_live.daily_balances d
WHERE ($1::text IS NULL
       OR d.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND d.day >= $2::date
ORDER BY 1, 2, 3;
