-- The periodic reconciliations of an item, which find what lost webhooks announced: when each is due next.
CREATE TABLE pluggy_sync.item_reconciliations (
    item_id uuid PRIMARY KEY,
    webhook_check_at timestamptz,
    recent_read_at timestamptz,
    verify_at timestamptz NOT NULL,
    deletions_at timestamptz
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy_sync.item_reconciliations IS
    'When each reconciliation of an item is due next, by our clock';
COMMENT ON COLUMN pluggy_sync.item_reconciliations.webhook_check_at IS
    'When to check an item whose collection was expected but not announced; null: Pluggy does not update'
    ' the item by itself, or the check is ordered already';
COMMENT ON COLUMN pluggy_sync.item_reconciliations.recent_read_at IS
    'When to read the last 14 days of its accounts again; null: nothing was read since the last time';
COMMENT ON COLUMN pluggy_sync.item_reconciliations.verify_at IS 'When to read everything again';
COMMENT ON COLUMN pluggy_sync.item_reconciliations.deletions_at IS
    'When to ask again for rows that are flagged because no witness could be asked; null: there are none';

CREATE INDEX item_reconciliations_webhook_check ON pluggy_sync.item_reconciliations (webhook_check_at)
    WHERE webhook_check_at IS NOT NULL;
CREATE INDEX item_reconciliations_recent_read ON pluggy_sync.item_reconciliations (recent_read_at)
    WHERE recent_read_at IS NOT NULL;
CREATE INDEX item_reconciliations_verify ON pluggy_sync.item_reconciliations (verify_at);
CREATE INDEX item_reconciliations_deletions ON pluggy_sync.item_reconciliations (deletions_at)
    WHERE deletions_at IS NOT NULL;
