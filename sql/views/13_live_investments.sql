CREATE VIEW pluggy_live.investments AS
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.row_links WHERE product = 'investments'
)
SELECT item_id, id, type, subtype, name, number, code, isin, status, currency_code, balance,
       amount, amount_original, amount_profit, amount_withdrawal, quantity, value, taxes, taxes2,
       rate, rate_type, fixed_annual_rate, last_month_rate, annual_rate, last_twelve_months_rate,
       issuer, issuer_cnpj, owner, institution_name, date, due_date, issue_date, purchase_date,
       source_created_at, source_updated_at, payload, run_id, first_seen_at, changed_at,
       i.ended_at
FROM pluggy.investments
LEFT JOIN (SELECT id AS of_item, ended_at FROM pluggy.items) AS i ON i.of_item = investments.item_id
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM links l WHERE l.item_id = investments.item_id AND l.id = investments.id);

COMMENT ON VIEW pluggy_live.investments IS 'Investments: one position each';
COMMENT ON COLUMN pluggy_live.investments.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.investments.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.investments.type IS 'Kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.subtype IS
    'Finer kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.name IS 'Name, as the bank shows it; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.number IS
    'Number of the account or of the contract, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.code IS 'Code such as a CNPJ of the fund; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.isin IS 'ISIN; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.status IS 'State, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.currency_code IS
    'ISO 4217 code of the row''s amounts; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.investments.balance IS
    'Value of the position after taxes, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.amount IS
    'Value of the position before taxes, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.amount_original IS
    'Amount that was put in, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.amount_profit IS
    'Gain, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.amount_withdrawal IS
    'Amount that can be taken out now, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.quantity IS
    'Shares, quotas or units held; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.value IS
    'Price of a unit, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.taxes IS
    'Income tax (IR) that a sale would cost, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.taxes2 IS
    'Financial tax (IOF) that a sale would cost, in currency_code; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.rate IS
    'Percent of rate_type that is paid; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.rate_type IS 'CDI, SELIC, IPCA, ...; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.fixed_annual_rate IS
    'Fixed percent a year; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.last_month_rate IS
    'Percent gained in the last month; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.annual_rate IS
    'Percent gained in this year; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.last_twelve_months_rate IS
    'Percent gained in the last twelve months; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.issuer IS 'Issuer; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.issuer_cnpj IS 'CNPJ of the issuer; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.owner IS 'Name of the holder, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.institution_name IS 'Institution that holds it; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.date IS
    'Time that the figures refer to, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.due_date IS
    'Day on which it is paid back; null: none, or not sent';
COMMENT ON COLUMN pluggy_live.investments.issue_date IS 'Day of issue; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.purchase_date IS
    'Day on which it was bought; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.source_updated_at IS
    'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.investments.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.investments.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.investments.first_seen_at IS
    'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.investments.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.investments.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
