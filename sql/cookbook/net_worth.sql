-- What bank accounts had and what was owed on cards at the end of each month and today, by currency; of today
-- also what investments are worth and loans owe.
-- $1: a clientUserId, null for all; $2: the first day.
-- net_worth is of accounts and cards. Investments and loans have no history: investments, loans and total,
-- which adds them to net_worth, are null before today. Of a card nothing is known before its first report:
-- cards says how many are in the sum. inexact counts balances that are not
-- known, and computed ones that miss an amount.
WITH of_user AS (
    SELECT id FROM pluggy_live.items WHERE client_user_id = $1
), days AS (
    SELECT d.item_id, d.account_id, d.day, d.currency_code AS currency, d.signed_balance, d.is_exact,
           max(d.day) OVER (PARTITION BY date_trunc('month', d.day)) AS last_day
    FROM pluggy_live.daily_balances d
    WHERE ($1::text IS NULL OR d.item_id = ANY (ARRAY(SELECT id FROM of_user))) AND d.day >= $2::date
), sums AS (
    SELECT d.day, d.currency,
           sum(d.signed_balance) FILTER (WHERE a.type IS DISTINCT FROM 'CREDIT') AS assets,
           sum(-d.signed_balance) FILTER (WHERE a.type = 'CREDIT') AS debts,
           count(*) FILTER (WHERE a.type IS DISTINCT FROM 'CREDIT') AS accounts,
           count(*) FILTER (WHERE a.type = 'CREDIT') AS cards,
           count(*) FILTER (WHERE d.signed_balance IS NULL OR NOT d.is_exact) AS inexact
    FROM days d
    JOIN pluggy_live.accounts a ON a.item_id = d.item_id AND a.id = d.account_id
    WHERE d.day = d.last_day
    GROUP BY 1, 2
), today AS (
    SELECT coalesce(max(day), greatest(current_date, $2::date)) AS day FROM sums
), beside AS (
    SELECT t.day, p.currency, sum(p.worth) AS investments, sum(p.owed) AS loans
    FROM (SELECT i.item_id, i.currency_code AS currency, i.balance AS worth, NULL::numeric AS owed
          FROM pluggy_live.investments i
          WHERE i.status IS DISTINCT FROM 'TOTAL_WITHDRAWAL'
          UNION ALL
          SELECT l.item_id, l.currency_code, NULL, l.outstanding_balance
          FROM pluggy_live.loans l
          WHERE l.settlement_date IS NULL) AS p
    CROSS JOIN today t
    WHERE $1::text IS NULL OR p.item_id = ANY (ARRAY(SELECT id FROM of_user))
    GROUP BY 1, 2
)
SELECT day, currency, coalesce(s.assets, 0) AS assets, coalesce(s.debts, 0) AS debts,
       coalesce(s.assets, 0) - coalesce(s.debts, 0) AS net_worth,
       CASE WHEN t.is_today THEN coalesce(b.investments, 0) END AS investments,
       CASE WHEN t.is_today THEN coalesce(b.loans, 0) END AS loans,
       CASE WHEN t.is_today THEN coalesce(s.assets, 0) - coalesce(s.debts, 0)
                                 + coalesce(b.investments, 0) - coalesce(b.loans, 0) END AS total,
       coalesce(s.accounts, 0) AS accounts, coalesce(s.cards, 0) AS cards, coalesce(s.inexact, 0) AS inexact
FROM sums s
FULL JOIN beside b USING (day, currency)
CROSS JOIN LATERAL (SELECT day = (SELECT today.day FROM today) AS is_today) AS t
ORDER BY 1 DESC, 2;
