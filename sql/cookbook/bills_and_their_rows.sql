-- Closed bills beside the sum of their transactions. A difference has a reason at the bank: finance charges,
-- rows that Pluggy does not convert, or rows that it does not assign to the bill.
-- $1: a clientUserId, null for all; $2: bills due from this day on.
-- IS TRUE: without it the planner may read the index of all people's bills for those of one.
WITH sums AS (
    SELECT t.item_id, t.bill_id, t.signed_currency_code AS currency, sum(-t.signed_amount) AS amount,
           count(*) AS transactions
    FROM pluggy_live.transactions t
    WHERE ($1::text IS NULL
           OR t.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
      AND (t.bill_id IS NOT NULL) IS TRUE AND t.deletion_flagged_at IS NULL
    GROUP BY 1, 2, 3
)
SELECT b.item_id, b.id AS bill_id, b.due_date, b.currency_code AS currency, b.total_amount,
       coalesce(sum(s.amount) FILTER (WHERE s.currency = b.currency_code), 0) AS sum_of_rows,
       coalesce(sum(s.transactions), 0)::bigint AS transactions,
       coalesce(sum(s.transactions) FILTER (WHERE s.currency IS DISTINCT FROM b.currency_code), 0)::bigint
           AS in_other_currency
FROM pluggy_live.bills b
LEFT JOIN sums s ON s.item_id = b.item_id AND s.bill_id = b.id
WHERE ($1::text IS NULL
       OR b.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
  AND b.due_date >= $2::date
GROUP BY b.item_id, b.id, b.due_date, b.currency_code, b.total_amount
ORDER BY b.due_date DESC, 1, 2;
