-- Closed bills beside the sum of their transactions. A difference has a reason at the bank: finance charges,
-- rows that Pluggy does not convert, or rows that it does not assign to the bill.
-- $1: a clientUserId, null for all; $2: bills due from this day on.
SELECT b.item_id, b.id AS bill_id, b.due_date, b.currency_code AS currency, b.total_amount,
       coalesce(sum(-t.signed_amount) FILTER (WHERE t.signed_currency_code = b.currency_code), 0)
           AS sum_of_rows,
       count(t.id) AS transactions,
       count(t.id) FILTER (WHERE t.signed_currency_code IS DISTINCT FROM b.currency_code) AS in_other_currency
FROM pluggy_live.bills b
LEFT JOIN pluggy_live.transactions t ON t.item_id = b.item_id AND t.bill_id = b.id
    AND t.deletion_flagged_at IS NULL
    AND ($1::text IS NULL
         OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
WHERE ($1::text IS NULL
       OR b.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND b.due_date >= $2::date
GROUP BY b.item_id, b.id, b.due_date, b.currency_code, b.total_amount
ORDER BY b.due_date DESC, 1, 2;
