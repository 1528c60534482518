-- Fills a migrated database with :items items, a user each, with a bank account and a card of :rows transactions
-- over a year; every card has twelve bills, every account thirty snapshots of its balance. Transactions lie as
-- they come: those of the older half of the year account by account, by a first load, then day by day.
INSERT INTO pluggy.items (id, connector_id, connector_name, client_user_id, status, last_updated_at, payload,
    row_hash, row_version, run_id)
SELECT md5('item' || n)::uuid, 600 + n % 40, 'Bank ' || n % 40, 'user-' || n, 'UPDATED', now(), '{}', '\x00', 1, 1
FROM generate_series(1, :items) AS n;

INSERT INTO pluggy.accounts (item_id, id, type, number, name, owner, currency_code, balance,
    credit_balance_due_date, payload, row_hash, row_version, run_id)
SELECT md5('item' || n)::uuid, md5('account' || n || k)::uuid, CASE k WHEN 1 THEN 'BANK' ELSE 'CREDIT' END,
       lpad((n * 2 + k)::text, 8, '0'), 'Account', 'Holder ' || n, 'BRL', 1000,
       CASE k WHEN 2 THEN current_date + 9 END, '{}', '\x00', 1, 1
FROM generate_series(1, :items) AS n, generate_series(1, 2) AS k;

INSERT INTO pluggy_sync.balance_snapshots (item_id, account_id, day, currency_code, balance)
SELECT a.item_id, a.id, current_date - s, 'BRL', 1000 + s
FROM pluggy.accounts a, generate_series(0, 29) AS s;

INSERT INTO pluggy.bills (item_id, id, account_id, due_date, total_amount, currency_code, payload, row_hash,
    row_version, run_id)
SELECT a.item_id, md5('bill' || a.id || m)::uuid, a.id, current_date + 9 - m * 30, 900, 'BRL',
       '{"payments": [{"amount": 500}]}', '\x00', 1, 1
FROM pluggy.accounts a, generate_series(0, 11) AS m
WHERE a.type = 'CREDIT';

INSERT INTO pluggy.transactions (item_id, id, account_id, description, currency_code, amount, date, posted_on,
    status, category, category_id, merchant_name, bill_id, payload, row_hash, row_version, run_id)
SELECT a.item_id, md5('row' || a.id || n)::uuid, a.id, 'Text ' || n % 50, CASE WHEN n % 40 = 0 THEN 'USD' ELSE 'BRL' END,
       (n % 97 - 70) * CASE a.type WHEN 'CREDIT' THEN -1 ELSE 1 END, d.day, d.day::date, CASE WHEN n % 100 = 0 THEN 'PENDING' ELSE 'POSTED' END,
       CASE WHEN n % 16 > 0 THEN 'Category ' || n % 30 END, CASE WHEN n % 16 > 0 THEN lpad((n % 30 * 1000000)::text, 8, '0') END,
       CASE WHEN n % 3 = 0 THEN 'Shop ' || n % 60 END, CASE a.type WHEN 'CREDIT' THEN md5('bill' || a.id || n % 12)::uuid END,
       '{}', '\x00', 1, 1
FROM pluggy.accounts a, generate_series(1, :rows) AS n,
     LATERAL (SELECT now() + interval '3 days' - n % 368 * interval '1 day' AS day) AS d
ORDER BY n % 368 < 184, CASE WHEN n % 368 >= 184 THEN a.id END, n % 368 DESC;

INSERT INTO pluggy.investments (item_id, id, type, currency_code, balance, amount_profit, status, payload,
    row_hash, row_version, run_id)
SELECT id, md5('investment' || id)::uuid, 'MUTUAL_FUND', 'BRL', 100, 1, 'ACTIVE', '{}', '\x00', 1, 1 FROM pluggy.items;

INSERT INTO pluggy.loans (item_id, id, kind, currency_code, outstanding_balance, payload, row_hash,
    row_version, run_id)
SELECT id, md5('loan' || id)::uuid, 'LOAN', 'BRL', 100, '{}', '\x00', 1, 1 FROM pluggy.items;
