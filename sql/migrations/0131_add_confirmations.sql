-- Answers that contradict their event are asked for again: on the event for what it waits for, on the
-- step for a list that was empty at its first read.
ALTER TABLE pluggy_sync.webhook_events
    ADD COLUMN confirming text,
    ADD COLUMN confirming_since timestamptz;
COMMENT ON COLUMN pluggy_sync.webhook_events.confirming IS
    'what is looked at again because its answer contradicted the event: a product, or product/account';
COMMENT ON COLUMN pluggy_sync.webhook_events.confirming_since IS
    'the first answer that contradicted an event about it: looks are made 5 s, 30 s, 2 min and 5 min later';
ALTER TABLE pluggy_sync.product_sync
    ADD COLUMN first_read_at timestamptz,
    ADD COLUMN awaits_rows boolean NOT NULL DEFAULT false,
    ADD COLUMN confirm_at timestamptz;
COMMENT ON COLUMN pluggy_sync.product_sync.first_read_at IS
    'our clock when the first complete read started; null: before this was noted';
COMMENT ON COLUMN pluggy_sync.product_sync.awaits_rows IS
    'the list has been empty since its first read, and not all looks at it have been made';
COMMENT ON COLUMN pluggy_sync.product_sync.confirm_at IS
    'when an empty first list is to be looked at again; null: it is not, or the event for it is stored';
CREATE INDEX product_sync_confirm ON pluggy_sync.product_sync (confirm_at) WHERE confirm_at IS NOT NULL;
