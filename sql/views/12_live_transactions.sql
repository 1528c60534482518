-- signed_amount: the holder's view, money out is negative. Pluggy signs bank rows so already and card
-- rows the other way round (a purchase is positive). signed_currency_code is what it is in: amount is
-- in the row's currency, amount_in_account_currency in the account's. is_future goes by days, so that
-- a row without a time of day is not future on its day.
CREATE VIEW pluggy_live.transactions AS
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.row_links WHERE product = 'transactions'
)
SELECT t.item_id, t.id, t.account_id, t.description, t.description_raw, t.currency_code, t.amount,
       t.amount_in_account_currency,
       coalesce(t.amount_in_account_currency, t.amount)
           * CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END AS signed_amount,
       CASE WHEN t.amount_in_account_currency IS NOT NULL THEN a.currency_code
            ELSE coalesce(t.currency_code, a.currency_code) END AS signed_currency_code,
       t.date, t.posted_on, t.type, t.status, t.status = 'PENDING' AS is_pending,
       t.posted_on > (SELECT (now() AT TIME ZONE posted_on_zone)::date
                      FROM pluggy_sync.worker_settings) AS is_future,
       t.balance, t.category, t.category_id, t.provider_code,
       t.provider_id, t.operation_type, t.payment_method, t.merchant_name, t.installment_number,
       t.total_installments, t.bill_id, t.order_in_day, t.source_created_at, t.source_updated_at,
       t.payload, t.run_id, t.first_seen_at, t.changed_at, t.deletion_flagged_at,
       i.ended_at
FROM pluggy.transactions t
LEFT JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
LEFT JOIN pluggy.items i ON i.id = t.item_id
WHERE t.deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM links l WHERE l.item_id = t.item_id AND l.id = t.id);

COMMENT ON VIEW pluggy_live.transactions IS 'Transactions of accounts and cards';
COMMENT ON COLUMN pluggy_live.transactions.item_id IS
    'The item (connection of a person to a bank) that owns the row';
COMMENT ON COLUMN pluggy_live.transactions.id IS 'Pluggy''s id of the row, unique within its item';
COMMENT ON COLUMN pluggy_live.transactions.account_id IS
    'The account (accounts.id of the same item_id)';
COMMENT ON COLUMN pluggy_live.transactions.description IS
    'Text of the row, cleaned by Pluggy, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.description_raw IS
    'Text of the row as the bank has it, personal; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.currency_code IS
    'ISO 4217 code of amount, which may be a foreign one; null: Pluggy does not say';
COMMENT ON COLUMN pluggy_live.transactions.amount IS
    'As Pluggy sends it, in currency_code: negative is out of a BANK account; of a card positive '
    'is a purchase';
COMMENT ON COLUMN pluggy_live.transactions.amount_in_account_currency IS
    'amount in the account''s currency; null: it is in it already, or Pluggy does not convert';
COMMENT ON COLUMN pluggy_live.transactions.signed_amount IS
    'The holder''s view, in signed_currency_code: money out is negative, purchases by card too';
COMMENT ON COLUMN pluggy_live.transactions.signed_currency_code IS
    'ISO 4217 code of signed_amount: the account''s where Pluggy converts, else the row''s; null: '
    'neither says. Sums of several currencies mean nothing: group by it';
COMMENT ON COLUMN pluggy_live.transactions.date IS
    'Time reported by the bank, UTC; a bare date is 00:00 UTC: use posted_on for days';
COMMENT ON COLUMN pluggy_live.transactions.posted_on IS
    'Calendar day: of a bare date that date, else the day in POSTED_ON_ZONE';
COMMENT ON COLUMN pluggy_live.transactions.type IS
    'DEBIT or CREDIT by Pluggy; signed_amount says which way the money went';
COMMENT ON COLUMN pluggy_live.transactions.status IS 'POSTED or PENDING; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.is_pending IS
    'Whether the bank has not booked it yet; null: no status';
COMMENT ON COLUMN pluggy_live.transactions.is_future IS
    'Whether posted_on is after today in POSTED_ON_ZONE: instalments and planned payments';
COMMENT ON COLUMN pluggy_live.transactions.balance IS
    'Balance of the account after the row, in the account''s currency; null: the bank does not say';
COMMENT ON COLUMN pluggy_live.transactions.category IS
    'Pluggy''s category by name, in English; null: none, and in all rows without Pluggy''s '
    'enrichment';
COMMENT ON COLUMN pluggy_live.transactions.category_id IS
    'Pluggy''s category by number (categories.id); null: as category';
COMMENT ON COLUMN pluggy_live.transactions.provider_code IS 'The bank''s own code; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.provider_id IS
    'The bank''s own id, which outlives Pluggy''s; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.operation_type IS
    'PIX, TED, BOLETO, ...; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.payment_method IS
    'How it was paid, by Pluggy''s paymentData; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.merchant_name IS 'Name of the merchant; null: not known';
COMMENT ON COLUMN pluggy_live.transactions.installment_number IS
    'Which instalment of a purchase by card, from 1; null: none';
COMMENT ON COLUMN pluggy_live.transactions.total_installments IS
    'How many instalments the purchase has; null: none';
COMMENT ON COLUMN pluggy_live.transactions.bill_id IS
    'The card''s bill that it is on (bills.id); null: none yet, or no card';
COMMENT ON COLUMN pluggy_live.transactions.order_in_day IS
    'Place among the rows of its day, by the bank; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.source_created_at IS
    'Pluggy''s createdAt, UTC; of all rows of a first import about the same; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.source_updated_at IS
    'Pluggy''s updatedAt, UTC; null: not sent';
COMMENT ON COLUMN pluggy_live.transactions.payload IS
    'The row as Pluggy last sent it, unknown fields included';
COMMENT ON COLUMN pluggy_live.transactions.run_id IS
    'The run that wrote the row last (pluggy_sync.runs.id)';
COMMENT ON COLUMN pluggy_live.transactions.first_seen_at IS
    'When the row was first stored here, UTC';
COMMENT ON COLUMN pluggy_live.transactions.changed_at IS
    'When the row last changed here, UTC; an unchanged row that is read again keeps it';
COMMENT ON COLUMN pluggy_live.transactions.deletion_flagged_at IS
    'Since when (UTC) the row is absent at Pluggy and not proven deleted: it may count twice '
    'beside the row that replaces it (pluggy-sync deletions list); null: Pluggy shows it, as far as '
    'is known';
COMMENT ON COLUMN pluggy_live.transactions.ended_at IS
    'When Pluggy deleted the item after withdrawing its connector (UTC): the row is kept as it was '
    'and changes no more; null: the item is live';
