-- Computed backwards: the end of a day is the balance of the last collection less all that was booked after
-- that day. Every row of days covers the days up to the next movement.
CREATE VIEW pluggy_live.daily_balances AS
WITH links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by FROM pluggy_sync.account_links
    WHERE state IN ('linked', 'accepted')
), accounts AS (
    SELECT a.item_id, a.id AS account_id, a.currency_code, a.balance,
           (coalesce(i.last_updated_at, a.source_updated_at, a.changed_at)
            AT TIME ZONE (SELECT posted_on_zone FROM pluggy_sync.worker_settings))::date AS collected_on
    FROM pluggy.accounts a
    JOIN pluggy.items i ON i.id = a.item_id AND (i.deleted_at IS NULL OR i.ended_at IS NOT NULL)
    WHERE a.deleted_at IS NULL AND a.type = 'BANK' AND a.balance IS NOT NULL
), days AS (
    SELECT a.item_id, a.account_id, a.currency_code, a.balance, a.collected_on,
           coalesce(t.posted_on, a.collected_on) AS day, count(t.id) AS transactions,
           coalesce(sum(coalesce(t.amount_in_account_currency, t.amount)) FILTER (
               WHERE t.amount_in_account_currency IS NOT NULL
                  OR coalesce(t.currency_code = a.currency_code, true)), 0) AS net_amount,
           count(t.id) FILTER (
               WHERE t.amount_in_account_currency IS NULL AND t.currency_code <> a.currency_code)
               AS unconverted,
           (array_agg(t.balance ORDER BY t.order_in_day DESC NULLS LAST, t.date DESC, t.id DESC)
            FILTER (WHERE t.balance IS NOT NULL))[1] AS reported_balance
    FROM accounts a
    LEFT JOIN pluggy.transactions t ON t.item_id = a.item_id AND t.account_id = a.account_id
        AND t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL
        AND t.status IS DISTINCT FROM 'PENDING' AND t.posted_on <= a.collected_on
    GROUP BY a.item_id, a.account_id, a.currency_code, a.balance, a.collected_on,
             coalesce(t.posted_on, a.collected_on)
), covered AS (
    -- From that day on the account is shown under its new item.
    SELECT l.item_id, l.account_id, min(n.day) AS from_day
    FROM links l
    JOIN days n ON n.item_id = l.superseded_by_item_id AND n.account_id = l.superseded_by
    GROUP BY l.item_id, l.account_id
), running AS (
    SELECT d.*, lead(d.day) OVER by_day AS next_day,
           coalesce(sum(d.net_amount) OVER later, 0) AS net_amount_later,
           coalesce(sum(d.unconverted) OVER later, 0) AS unconverted_later
    FROM days d
    WINDOW by_day AS (PARTITION BY d.item_id, d.account_id ORDER BY d.day),
           later AS (by_day ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
)
SELECT r.item_id, r.account_id, c.day::date AS day, r.currency_code,
       r.balance - r.net_amount_later AS signed_balance,
       CASE WHEN c.day = r.day THEN r.net_amount ELSE 0 END AS net_amount,
       CASE WHEN c.day = r.day THEN r.transactions ELSE 0 END AS transactions,
       CASE WHEN c.day = r.day THEN r.reported_balance END AS reported_balance,
       r.unconverted_later = 0 AS is_exact
FROM running r
CROSS JOIN LATERAL generate_series(
    r.day::timestamp, coalesce(r.next_day - 1, r.collected_on)::timestamp, interval '1 day') AS c(day)
LEFT JOIN covered v ON v.item_id = r.item_id AND v.account_id = r.account_id
WHERE v.from_day IS NULL OR c.day < v.from_day;

COMMENT ON VIEW pluggy_live.daily_balances IS
    'Balance of each BANK account at the end of each day, from its first booked transaction to '
    'the day of the last collection, each day once: an account that goes on under a new item is shown '
    'there from its first day on; cards are left out, for Pluggy reports the open bill as their '
    'balance';
COMMENT ON COLUMN pluggy_live.daily_balances.item_id IS 'The item that owns the account';
COMMENT ON COLUMN pluggy_live.daily_balances.account_id IS
    'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.daily_balances.day IS 'Calendar day, as posted_on of transactions';
COMMENT ON COLUMN pluggy_live.daily_balances.currency_code IS
    'ISO 4217 code of the account; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.daily_balances.signed_balance IS
    'What the holder had at the end of the day, in currency_code: the balance of the last '
    'collection less all booked since';
COMMENT ON COLUMN pluggy_live.daily_balances.net_amount IS
    'Sum of the day''s booked transactions, in currency_code: money out is negative; 0: none';
COMMENT ON COLUMN pluggy_live.daily_balances.transactions IS 'Booked transactions of the day';
COMMENT ON COLUMN pluggy_live.daily_balances.reported_balance IS
    'The bank''s own balance after the last transaction of the day, in currency_code, to compare '
    'with signed_balance; null: the bank does not say, or no transaction';
COMMENT ON COLUMN pluggy_live.daily_balances.is_exact IS
    'Whether all transactions booked since are in the account''s currency; false: signed_balance '
    'misses those that Pluggy does not convert';
