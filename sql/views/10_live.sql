-- What applications and reports query: rows that Pluggy holds now, tombstones left out.

CREATE VIEW pluggy_live.items AS
SELECT id, connector_id, connector_name, connector_is_open_finance, status, execution_status, error_code, client_user_id,
       products, source_created_at, source_updated_at, last_updated_at, next_auto_sync_at,
       consent_expires_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.items
WHERE deleted_at IS NULL;

-- signed_balance: what the holder has. Pluggy tells a card's debt as a positive balance.
CREATE VIEW pluggy_live.accounts AS
SELECT item_id, id, type, subtype, number, name, marketing_name, owner, tax_number, currency_code,
       balance, balance * CASE WHEN type = 'CREDIT' THEN -1 ELSE 1 END AS signed_balance,
       bank_transfer_number, bank_closing_balance, credit_level, credit_brand,
       credit_limit, credit_available_limit, credit_minimum_payment, credit_balance_close_date,
       credit_balance_due_date, credit_status, source_created_at, source_updated_at, payload,
       run_id, first_seen_at, changed_at, deletion_flagged_at
FROM pluggy.accounts
WHERE deleted_at IS NULL;

-- signed_amount: the holder's view, money out is negative. Pluggy signs bank rows so already and card
-- rows the other way round (a purchase is positive). signed_currency_code is what it is in: amount is
-- in the row's currency, amount_in_account_currency in the account's. is_future goes by days, so that
-- a row without a time of day is not future on its day.
CREATE VIEW pluggy_live.transactions AS
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
       t.payload, t.run_id, t.first_seen_at, t.changed_at, t.deletion_flagged_at
FROM pluggy.transactions t
LEFT JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
WHERE t.deleted_at IS NULL;

CREATE VIEW pluggy_live.investments AS
SELECT item_id, id, type, subtype, name, number, code, isin, status, currency_code, balance,
       amount, amount_original, amount_profit, amount_withdrawal, quantity, value, taxes, taxes2,
       rate, rate_type, fixed_annual_rate, last_month_rate, annual_rate, last_twelve_months_rate,
       issuer, issuer_cnpj, owner, institution_name, date, due_date, issue_date, purchase_date,
       source_created_at, source_updated_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.investments
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.investment_transactions AS
SELECT item_id, id, investment_id, type, movement_type, quantity, value, amount, net_amount, date,
       trade_date, description, brokerage_number, payload, run_id, first_seen_at, changed_at
FROM pluggy.investment_transactions
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.loans AS
SELECT item_id, id, contract_number, ipoc_code, product_name, type, kind, currency_code,
       contract_amount, outstanding_balance, cet, date, contract_date, settlement_date, due_date,
       first_installment_due_date, total_installments, paid_installments, source_created_at,
       source_updated_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.loans
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.identities AS
SELECT item_id, id, full_name, company_name, document, document_type, tax_number, birth_date,
       job_title, investor_profile, source_created_at, source_updated_at, payload, run_id,
       first_seen_at, changed_at
FROM pluggy.identities
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.bills AS
SELECT item_id, id, account_id, due_date, closing_date, total_amount, currency_code,
       minimum_payment_amount, allows_installments, source_created_at, source_updated_at, payload,
       run_id, first_seen_at, changed_at
FROM pluggy.bills
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.consents AS
SELECT item_id, id, products, permissions, expires_at, revoked_at, source_created_at, payload,
       run_id, first_seen_at, changed_at
FROM pluggy.consents
WHERE deleted_at IS NULL;
