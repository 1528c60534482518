CREATE VIEW pluggy_live.bills AS
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.row_links WHERE product = 'bills'
)
SELECT item_id, id, account_id, due_date, closing_date, total_amount, currency_code,
       minimum_payment_amount, allows_installments, source_created_at, source_updated_at, payload,
       run_id, first_seen_at, changed_at,
       i.ended_at
FROM pluggy.bills
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i ON i.of_item = bills.item_id
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM links l WHERE l.item_id = bills.item_id AND l.id = bills.id);

COMMENT ON VIEW pluggy_live.bills IS 'Closed bills of cards';
COMMENT ON COLUMN pluggy_live.bills.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.bills.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.bills.account_id IS 'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.bills.due_date IS 'Day on which the bill is due; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.closing_date IS 'Day on which the bill closed; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.total_amount IS
    'Amount to be paid, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.currency_code IS
    'ISO 4217 code of the row''s amounts; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.bills.minimum_payment_amount IS
    'Least that is to be paid, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.allows_installments IS
    'Whether it may be paid in instalments; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.source_updated_at IS 'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.bills.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.bills.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.bills.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.bills.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.bills.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
