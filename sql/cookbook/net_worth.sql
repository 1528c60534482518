-- What bank accounts had and what was owed on cards at the end of each month and today, by currency.
-- $1: a clientUserId, null for all; $2: the first day.
-- Investments and loans have no history (investments_and_loans.sql). Of a card nothing is known before its
-- first report: cards says how many are in the sum. inexact counts balances that are not known, and computed
-- ones that miss an amount.
WITH days AS (
    SELECT d.item_id, d.account_id, d.day, d.currency_code AS currency, d.signed_balance, d.is_exact,
           max(d.day) OVER (PARTITION BY date_trunc('month', d.day)) AS last_day
    FROM pluggy_live.daily_balances d
    WHERE ($1::text IS NULL
           OR d.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
      AND d.day >= $2::date
)
SELECT d.day, d.currency,
       coalesce(sum(d.signed_balance) FILTER (WHERE a.type IS DISTINCT FROM 'CREDIT'), 0) AS assets,
       coalesce(sum(-d.signed_balance) FILTER (WHERE a.type = 'CREDIT'), 0) AS debts,
       coalesce(sum(d.signed_balance), 0) AS net_worth,
       count(*) FILTER (WHERE a.type IS DISTINCT FROM 'CREDIT') AS accounts,
       count(*) FILTER (WHERE a.type = 'CREDIT') AS cards,
       count(*) FILTER (WHERE d.signed_balance IS NULL OR NOT d.is_exact) AS inexact
FROM days d
JOIN pluggy_live.accounts a ON a.item_id = d.item_id AND a.id = d.account_id
WHERE d.day = d.last_day
GROUP BY 1, 2
ORDER BY 1 DESC, 2;
