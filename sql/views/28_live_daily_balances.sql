-- From the first snapshot of an account on its balance is carried forward from snapshot to snapshot. Earlier
-- days of a BANK account are computed backwards: the first snapshot less all that was booked after the day.
-- Account by account, so that a condition on item_id reads no other account.
CREATE VIEW pluggy_live.daily_balances AS
SELECT a.item_id, a.id AS account_id, d.day, d.currency_code, d.signed_balance, d.reported_on,
       d.net_amount, d.transactions, d.reported_balance, d.is_exact
FROM pluggy.accounts a
JOIN pluggy.items i ON i.id = a.item_id AND (i.deleted_at IS NULL OR i.ended_at IS NOT NULL)
CROSS JOIN LATERAL (SELECT CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END AS sign) v
LEFT JOIN LATERAL (
    -- From that day on the account is shown under its new item.
    SELECT least((SELECT min(s.day) FROM pluggy_sync.balance_snapshots s
                  WHERE s.item_id = l.superseded_by_item_id AND s.account_id = l.superseded_by),
                 CASE WHEN a.type = 'BANK' THEN (
                     SELECT min(t.posted_on) FROM pluggy.transactions t
                     WHERE t.item_id = l.superseded_by_item_id AND t.account_id = l.superseded_by
                       AND t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL
                       AND t.status IS DISTINCT FROM 'PENDING') END) AS day
    FROM pluggy_sync.account_links l
    WHERE l.item_id = a.item_id AND l.account_id = a.id AND l.state IN ('linked', 'accepted')
) AS successor ON true
CROSS JOIN LATERAL (
    WITH movements AS (
        SELECT t.posted_on AS day, count(*) AS transactions,
               v.sign * coalesce(sum(coalesce(t.amount_in_account_currency, t.amount)) FILTER (
                   WHERE t.amount_in_account_currency IS NOT NULL
                      OR coalesce(t.currency_code = a.currency_code, true)), 0) AS net_amount,
               count(*) FILTER (
                   WHERE t.amount_in_account_currency IS NULL AND t.currency_code <> a.currency_code)
                   AS unconverted,
               (max(ARRAY[coalesce(t.order_in_day, -1), extract(epoch FROM t.date), t.balance])
                FILTER (WHERE t.balance IS NOT NULL))[3] AS reported_balance
        FROM pluggy.transactions t
        WHERE t.item_id = a.item_id AND t.account_id = a.id
          AND t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL
          AND t.status IS DISTINCT FROM 'PENDING'
        GROUP BY t.posted_on
    ), snapshots AS (
        SELECT s.day, s.currency_code, v.sign * s.balance AS signed_balance,
               lead(s.day, 1, (SELECT (now() AT TIME ZONE z.posted_on_zone)::date + 1
                               FROM pluggy_sync.worker_settings z)) OVER (ORDER BY s.day) AS next_day
        FROM pluggy_sync.balance_snapshots s
        WHERE s.item_id = a.item_id AND s.account_id = a.id
    ), computed AS (
        SELECT m.day, f.currency_code,
               f.signed_balance - coalesce(sum(m.net_amount) OVER later, 0) AS signed_balance,
               lead(m.day, 1, f.day) OVER by_day AS next_day,
               coalesce(sum(m.unconverted) OVER later, 0) = 0 AS is_exact
        FROM (SELECT * FROM snapshots ORDER BY day LIMIT 1) f
        JOIN movements m ON m.day <= f.day
        WHERE a.type = 'BANK' AND f.signed_balance IS NOT NULL
        WINDOW by_day AS (ORDER BY m.day),
               later AS (by_day ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
    ), periods AS (
        SELECT day, next_day, currency_code, signed_balance, day AS reported_on, true AS is_exact
        FROM snapshots
        UNION ALL
        SELECT day, next_day, currency_code, signed_balance, NULL, is_exact FROM computed
    ), days AS (
        -- Not in FROM: Postgres would write the days of each period to a table of their own.
        SELECT day + generate_series(0, next_day - day - 1) AS day, currency_code, signed_balance,
               reported_on, is_exact
        FROM periods
    )
    SELECT c.day, c.currency_code, c.signed_balance, c.reported_on, c.is_exact,
           coalesce(m.net_amount, 0) AS net_amount, coalesce(m.transactions, 0) AS transactions,
           m.reported_balance
    FROM days c
    LEFT JOIN movements m USING (day)
) AS d
WHERE a.deleted_at IS NULL AND (successor.day IS NULL OR d.day < successor.day);

COMMENT ON VIEW pluggy_live.daily_balances IS
    'Balance of each account at the end of each day up to today, each day once: as Pluggy reported it '
    'last, carried forward; before the first report, of a BANK account, computed from its '
    'transactions. An account that goes on under a new item is shown there from its first day on';
COMMENT ON COLUMN pluggy_live.daily_balances.item_id IS 'The item that owns the account';
COMMENT ON COLUMN pluggy_live.daily_balances.account_id IS
    'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.daily_balances.day IS 'Calendar day, as posted_on of transactions';
COMMENT ON COLUMN pluggy_live.daily_balances.currency_code IS
    'ISO 4217 code of the account on that day; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.daily_balances.signed_balance IS
    'What the holder had at the end of the day, in currency_code; of a card what was owed, '
    'negative; null: Pluggy reported no balance';
COMMENT ON COLUMN pluggy_live.daily_balances.reported_on IS
    'The day on which Pluggy reported signed_balance; null: computed, the first reported balance less '
    'all booked since';
COMMENT ON COLUMN pluggy_live.daily_balances.net_amount IS
    'Sum of the day''s booked transactions, in currency_code: money out is negative; 0: none';
COMMENT ON COLUMN pluggy_live.daily_balances.transactions IS 'Booked transactions of the day';
COMMENT ON COLUMN pluggy_live.daily_balances.reported_balance IS
    'The bank''s own balance after the last transaction of the day, in currency_code, to compare '
    'with signed_balance; null: the bank does not say, or no transaction';
COMMENT ON COLUMN pluggy_live.daily_balances.is_exact IS
    'False: signed_balance is computed and misses transactions in a currency that Pluggy does not '
    'convert';
