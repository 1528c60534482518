CREATE VIEW pluggy_live.investment_transactions AS
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.row_links WHERE product = 'investment_transactions'
)
SELECT item_id, id, investment_id, type, movement_type, quantity, value, amount, net_amount, date,
       trade_date, description, brokerage_number, payload, run_id, first_seen_at, changed_at,
       i.ended_at
FROM pluggy.investment_transactions
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i
    ON i.of_item = investment_transactions.item_id
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM links l
                  WHERE l.item_id = investment_transactions.item_id
                    AND l.id = investment_transactions.id);

COMMENT ON VIEW pluggy_live.investment_transactions IS 'Movements of investments';
COMMENT ON COLUMN pluggy_live.investment_transactions.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.investment_transactions.id IS
    'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.investment_transactions.investment_id IS
    'The investment (investments.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.investment_transactions.type IS
    'Kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.movement_type IS
    'CREDIT (into the investment''s account) or DEBIT; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.quantity IS
    'Shares, quotas or units moved; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.value IS
    'Price of a unit, in the investment''s currency; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.amount IS
    'Amount of the movement before fees and taxes, in the investment''s currency; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.net_amount IS
    'Amount after fees and taxes, in the investment''s currency; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.date IS
    'Time of the movement, UTC; a bare date is 00:00 UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.trade_date IS
    'When it was traded, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.description IS
    'Text of the movement; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.brokerage_number IS
    'Number of the broker''s note; null: not sent';
COMMENT ON COLUMN pluggy_live.investment_transactions.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.investment_transactions.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.investment_transactions.first_seen_at IS
    'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.investment_transactions.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.investment_transactions.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
