CREATE VIEW pluggy_live.loans AS
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.row_links WHERE product = 'loans'
)
SELECT item_id, id, contract_number, ipoc_code, product_name, type, kind, currency_code,
       contract_amount, outstanding_balance, cet, date, contract_date, settlement_date, due_date,
       first_installment_due_date, total_installments, paid_installments, source_created_at,
       source_updated_at, payload, run_id, first_seen_at, changed_at,
       i.ended_at
FROM pluggy.loans
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i ON i.of_item = loans.item_id
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM links l WHERE l.item_id = loans.item_id AND l.id = loans.id);

COMMENT ON VIEW pluggy_live.loans IS 'Loans';
COMMENT ON COLUMN pluggy_live.loans.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.loans.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.loans.contract_number IS
    'Number of the contract, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.ipoc_code IS
    'Number of the contract at the central bank, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.product_name IS 'Name of the loan at the bank; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.type IS 'Kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.kind IS 'Finer kind, by open finance''s names; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.currency_code IS
    'ISO 4217 code of the row''s amounts; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.loans.contract_amount IS
    'Amount that was lent, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.outstanding_balance IS
    'Amount that is still owed, positive, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.cet IS
    'Total cost a year as a fraction (CET), 0.29 is 29 %; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.date IS 'Day that the figures refer to; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.contract_date IS 'Day of the contract; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.settlement_date IS
    'Day on which it was paid back; null: it is not';
COMMENT ON COLUMN pluggy_live.loans.due_date IS
    'Day on which it is to be paid back; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.first_installment_due_date IS
    'Day on which the first instalment is due; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.total_installments IS
    'How many instalments it has; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.paid_installments IS
    'How many instalments are paid; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.source_updated_at IS 'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.loans.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.loans.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.loans.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.loans.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.loans.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
