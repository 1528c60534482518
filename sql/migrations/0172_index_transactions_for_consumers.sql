-- What applications ask pluggy_live.transactions by, which know no item_id: a row, an account's rows by
-- date, a bill's rows, a span of days of everybody, and what has changed lately. What they cost a first
-- load and what they bring is measured by `python -m bench.consumers` (docs/consume.md).
CREATE INDEX transactions_id ON pluggy.transactions (id);
CREATE INDEX transactions_by_account ON pluggy.transactions (account_id, date);
CREATE INDEX transactions_bill ON pluggy.transactions (bill_id) WHERE bill_id IS NOT NULL;
CREATE INDEX transactions_posted_on ON pluggy.transactions (posted_on);
CREATE INDEX transactions_changed ON pluggy.transactions (changed_at);
