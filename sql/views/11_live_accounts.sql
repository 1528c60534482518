-- Pluggy reports a card's debt as a positive balance. The balance of
-- an account that goes on under another item is counted there.
CREATE VIEW pluggy_live.accounts AS
WITH links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by FROM pluggy_sync.account_links
    WHERE state IN ('linked', 'accepted')
)
SELECT a.item_id, a.id, a.type, a.subtype, a.number, a.name, a.marketing_name, a.owner, a.tax_number,
       a.currency_code, a.balance,
       CASE WHEN l.superseded_by IS NULL
            THEN a.balance * CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END END AS signed_balance,
       a.bank_transfer_number, a.bank_closing_balance, a.credit_level, a.credit_brand,
       a.credit_limit, a.credit_available_limit, a.credit_minimum_payment, a.credit_balance_close_date,
       a.credit_balance_due_date, a.credit_status, a.source_created_at, a.source_updated_at, a.payload,
       a.run_id, a.first_seen_at, a.changed_at, a.deletion_flagged_at,
       i.ended_at,
       l.superseded_by_item_id, l.superseded_by
FROM pluggy.accounts a
LEFT JOIN pluggy.items i ON i.id = a.item_id
LEFT JOIN links l ON l.item_id = a.item_id AND l.account_id = a.id
WHERE a.deleted_at IS NULL;

COMMENT ON VIEW pluggy_live.accounts IS 'Accounts and cards';
COMMENT ON COLUMN pluggy_live.accounts.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.accounts.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.accounts.type IS
    'BANK or CREDIT (a card), or a newer word of Pluggy''s';
COMMENT ON COLUMN pluggy_live.accounts.subtype IS 'Finer kind, as Pluggy names it; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.number IS
    'Number of the account or of the contract, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.name IS 'Name, as the bank shows it; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.marketing_name IS
    'Name of the product at the bank; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.owner IS 'Name of the holder, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.tax_number IS
    'CPF or CNPJ of the holder, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.currency_code IS
    'ISO 4217 code of the account: of balance, signed_balance and the limits; null: Pluggy does '
    'not say';
COMMENT ON COLUMN pluggy_live.accounts.balance IS
    'As Pluggy reports it, in currency_code: money held by a BANK account, money owed on a card; '
    'null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.signed_balance IS
    'Holder''s money, in currency_code: balance, negated for cards (debt is negative); null: '
    'no balance, or the account goes on under another item (superseded_by) and is counted there';
COMMENT ON COLUMN pluggy_live.accounts.bank_transfer_number IS
    'Branch and account as transfers name it, personal; null: not sent or a card';
COMMENT ON COLUMN pluggy_live.accounts.bank_closing_balance IS
    'Balance at the end of the last day, in currency_code; null: not sent or a card';
COMMENT ON COLUMN pluggy_live.accounts.credit_level IS
    'Level of the card, such as GOLD; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_brand IS
    'Brand of the card, such as VISA; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_limit IS
    'Limit of the card in currency_code; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_available_limit IS
    'Free part of the limit, in currency_code; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_minimum_payment IS
    'Least that the open bill asks for, in currency_code; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_balance_close_date IS
    'Day on which the open bill closes; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_balance_due_date IS
    'Day on which the open bill is due; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.credit_status IS
    'State of the card, such as ACTIVE; null: not sent or no card';
COMMENT ON COLUMN pluggy_live.accounts.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.source_updated_at IS
    'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.accounts.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.accounts.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.accounts.first_seen_at IS 'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.accounts.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.accounts.deletion_flagged_at IS
    'Since when (UTC) the row is absent at Pluggy and not proven deleted: it may count twice '
    'beside the row that replaces it (pluggy-sync deletions list); null: Pluggy shows it, as far as '
    'is known';
COMMENT ON COLUMN pluggy_live.accounts.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
COMMENT ON COLUMN pluggy_live.accounts.superseded_by_item_id IS
    'The new item of the same bank that goes on with the account; null: none';
COMMENT ON COLUMN pluggy_live.accounts.superseded_by IS
    'The account of superseded_by_item_id that is the same; null: none';
