-- Compares a table of transactions of your own with the mirror: what is missing, doubled, stale or never
-- deleted. docs/migrate.md says how to read it. First make a view of your table with these columns:
--   CREATE VIEW existing_transactions AS
--   SELECT pluggy_id::uuid AS id, pluggy_account_id::uuid AS account_id, amount, status, description
--   FROM your_table;
-- Accounts that your view does not name are not compared.
WITH existing AS (
    SELECT id, account_id, count(*) AS times, min(amount) AS amount, max(amount) AS other_amount,
           min(status) AS status, min(description) AS description
    FROM existing_transactions
    GROUP BY id, account_id
), accounts AS (
    SELECT DISTINCT account_id FROM existing
), mirrored AS (
    SELECT t.id, t.account_id, t.amount, t.status, t.description, t.deleted_at
    FROM pluggy.transactions t
    WHERE t.account_id IN (SELECT account_id FROM accounts)
), compared AS (
    SELECT m.id, m.account_id, e.id IS NULL AND m.deleted_at IS NULL AS is_missing,
           coalesce(e.times > 1, false) AS is_doubled,
           e.id IS NOT NULL AND m.deleted_at IS NULL
               AND (e.amount <> m.amount OR e.other_amount <> m.amount
                    OR e.status IS DISTINCT FROM m.status
                    OR e.description IS DISTINCT FROM m.description) AS is_stale,
           e.id IS NOT NULL AND m.deleted_at IS NOT NULL AS is_not_deleted, false AS is_unknown
    FROM mirrored m
    LEFT JOIN existing e ON e.id = m.id
    UNION ALL
    SELECT e.id, e.account_id, false, e.times > 1, false, false, true
    FROM existing e
    WHERE NOT EXISTS (SELECT FROM mirrored m WHERE m.id = e.id)
)
SELECT p.problem, count(*) AS transactions, count(DISTINCT c.account_id) AS accounts,
       (array_agg(c.id ORDER BY c.id))[1:3] AS examples
FROM compared c
CROSS JOIN LATERAL (VALUES
    ('missing', c.is_missing), ('doubled', c.is_doubled), ('stale', c.is_stale),
    ('never deleted', c.is_not_deleted), ('unknown to the mirror', c.is_unknown)) AS p(problem, is_so)
WHERE p.is_so
GROUP BY p.problem
ORDER BY p.problem;
