-- Bills of cards that are still to be paid: closed ones, and the open one of each card.
-- $1: a clientUserId, null for all; $2: today.
-- The amount of an open bill is the card's balance, which grows until the bill closes.
WITH bills AS (
    SELECT b.item_id, b.account_id, b.due_date, b.currency_code AS currency, b.total_amount AS amount,
           b.minimum_payment_amount AS minimum,
           (SELECT coalesce(sum((p #>> '{}')::numeric), 0)
            FROM jsonb_path_query(b.payload, '$.payments[*].amount ? (@.type() == "number")') AS p) AS paid
    FROM pluggy_live.bills b
    WHERE ($1::text IS NULL
           OR b.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
      AND b.due_date >= $2::date
), cards AS (
    SELECT a.item_id, a.id AS account_id, coalesce(a.marketing_name, a.name) AS card,
           right(a.number, 4) AS digits, a.currency_code AS currency, a.balance AS amount,
           a.credit_minimum_payment AS minimum, a.credit_balance_due_date AS due_date
    FROM pluggy_live.accounts a
    WHERE ($1::text IS NULL
           OR a.item_id = ANY (ARRAY(SELECT id FROM pluggy_live.items WHERE client_user_id = $1)))
      AND a.type = 'CREDIT' AND a.superseded_by IS NULL
)
SELECT b.due_date, 'closed' AS state, c.card, c.digits, b.currency, b.amount, b.paid, b.minimum
FROM bills b
JOIN cards c ON c.item_id = b.item_id AND c.account_id = b.account_id
WHERE b.paid < b.amount
UNION ALL
SELECT c.due_date, 'open', c.card, c.digits, c.currency, c.amount, 0, c.minimum
FROM cards c
WHERE c.due_date >= $2::date
  AND NOT EXISTS (SELECT FROM bills b WHERE b.item_id = c.item_id AND b.account_id = c.account_id
                    AND b.due_date = c.due_date)
ORDER BY 1, 2, 3, 4, 5, 6;
