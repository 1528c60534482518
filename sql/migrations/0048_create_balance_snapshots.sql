-- Balances of accounts by day, as Pluggy reported them: Pluggy tells the present one alone.
CREATE TABLE pluggy_sync.balance_snapshots (
    item_id uuid NOT NULL,
    account_id uuid NOT NULL,
    day date NOT NULL,
    currency_code text,
    balance numeric,
    PRIMARY KEY (item_id, account_id, day)
);

COMMENT ON TABLE pluggy_sync.balance_snapshots IS
    'The balance of an account on each day on which its row changed, the last of the day';
COMMENT ON COLUMN pluggy_sync.balance_snapshots.day IS
    'Of updatedAt in POSTED_ON_ZONE; at most a year before the row was read';
COMMENT ON COLUMN pluggy_sync.balance_snapshots.balance IS 'As in pluggy.accounts; null: not sent';
