-- Present value of investments and what is owed on loans, by kind and currency. Positions that are withdrawn
-- and loans that are paid back are left out.
-- $1: a clientUserId, null for all.
SELECT 'investment' AS what, i.type AS kind, i.currency_code AS currency, count(*) AS positions,
       sum(i.balance) AS value, sum(i.amount_profit) AS gain
FROM pluggy_live.investments i
WHERE ($1::text IS NULL
       OR i.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND i.status IS DISTINCT FROM 'TOTAL_WITHDRAWAL'
GROUP BY 2, 3
UNION ALL
SELECT 'loan', l.kind, l.currency_code, count(*), -sum(l.outstanding_balance), NULL
FROM pluggy_live.loans l
WHERE ($1::text IS NULL
       OR l.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND l.settlement_date IS NULL
GROUP BY 2, 3
ORDER BY 1, 2, 3;
