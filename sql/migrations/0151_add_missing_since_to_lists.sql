-- The last investment or loan of an item is gone when two looks at an empty list say so, each with a 404 of
-- every row, at least a day and one successful collection apart. missing_since: the first look, by our
-- clock; missing_collected_at: the collection that it saw, by Pluggy's. The next sight clears both.
ALTER TABLE pluggy.investments
    ADD COLUMN missing_since timestamptz,
    ADD COLUMN missing_collected_at timestamptz;
ALTER TABLE pluggy.loans
    ADD COLUMN missing_since timestamptz,
    ADD COLUMN missing_collected_at timestamptz;
-- As of transactions: a person says that the account stays.
ALTER TABLE pluggy.accounts ADD COLUMN deletion_refused_at timestamptz;
CREATE INDEX accounts_flagged ON pluggy.accounts (item_id) WHERE deletion_flagged_at IS NOT NULL;
