-- What applications and reports query: rows that Pluggy holds now, tombstones left out.

CREATE VIEW pluggy_live.items AS
SELECT id, connector_id, connector_name, status, execution_status, error_code, client_user_id,
       products, source_created_at, source_updated_at, last_updated_at, next_auto_sync_at,
       consent_expires_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.items
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.accounts AS
SELECT item_id, id, type, subtype, number, name, marketing_name, owner, tax_number, currency_code,
       balance, bank_transfer_number, bank_closing_balance, credit_level, credit_brand,
       credit_limit, credit_available_limit, credit_minimum_payment, credit_balance_close_date,
       credit_balance_due_date, credit_status, source_created_at, source_updated_at, payload,
       run_id, first_seen_at, changed_at
FROM pluggy.accounts
WHERE deleted_at IS NULL;

-- signed_amount: the holder's view, money out is negative. Pluggy signs bank rows so already and card
-- rows the other way round (a purchase is positive).
CREATE VIEW pluggy_live.transactions AS
SELECT t.item_id, t.id, t.account_id, t.description, t.description_raw, t.currency_code, t.amount,
       t.amount_in_account_currency,
       coalesce(t.amount_in_account_currency, t.amount)
           * CASE WHEN a.type = 'CREDIT' THEN -1 ELSE 1 END AS signed_amount,
       t.date, t.posted_on, t.type, t.status, t.status = 'PENDING' AS is_pending,
       t.date > now() AS is_future, t.balance, t.category, t.category_id, t.provider_code,
       t.provider_id, t.operation_type, t.payment_method, t.merchant_name, t.installment_number,
       t.total_installments, t.bill_id, t.order_in_day, t.source_created_at, t.source_updated_at,
       t.payload, t.run_id, t.first_seen_at, t.changed_at
FROM pluggy.transactions t
LEFT JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
WHERE t.deleted_at IS NULL;
