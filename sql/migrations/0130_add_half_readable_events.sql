-- Events of which only a part can be read: when a walk has stood for ids that could not be.
ALTER TABLE pluggy_sync.product_sync ADD COLUMN unreadable_walk_at timestamptz;
COMMENT ON COLUMN pluggy_sync.product_sync.unreadable_walk_at IS
    'our clock when a walk was last asked for because an event named rows by ids that cannot be read; the
    next walk for this cause waits a day';
COMMENT ON COLUMN pluggy_sync.webhook_events.expected_rows IS
    'rows that the event says it is about: transactionsCount, or how many transactionIds it names, those
    that cannot be read among them; null: it does not say';
