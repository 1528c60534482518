-- What an absence is judged by besides the question that proves it. missing_since: Pluggy first answered
-- without the row, in an answer that could not decide by itself; cleared when the row is shown again.
-- deletion_cause: named (by a transactions/deleted), missing (found absent otherwise), accepted (by a
-- person); null while the row is neither flagged nor tombstoned, and where its account or item went.
ALTER TABLE pluggy.transactions
    ADD COLUMN missing_since timestamptz,
    ADD COLUMN deletion_cause text;

-- A walk keeps apart what its questions have proven: absent (witnesses older and newer came back), waiting
-- (no older row exists, so the same question decides a day later), unproven (a witness was missing too).
ALTER TABLE pluggy_sync.walk_pages DROP CONSTRAINT walk_pages_kind_check;
ALTER TABLE pluggy_sync.walk_pages ADD CONSTRAINT walk_pages_kind_check
    CHECK (kind IN ('listed', 'returned', 'absent', 'waiting', 'unproven'));

-- Rows flagged for want of a witness are asked for again by themselves; null: there are none.
ALTER TABLE pluggy_sync.item_reconciliations ADD COLUMN deletions_at timestamptz;
CREATE INDEX item_reconciliations_deletions ON pluggy_sync.item_reconciliations (deletions_at)
    WHERE deletions_at IS NOT NULL;
