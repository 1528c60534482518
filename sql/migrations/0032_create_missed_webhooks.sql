-- Collections that the silence alarm found before any webhook told of them. Three hours later, when
-- Pluggy has made its last attempt, it is judged whether one came after all.
CREATE TABLE pluggy_sync.missed_webhooks (
    item_id uuid NOT NULL,
    source_updated_at timestamptz NOT NULL,
    collected_at timestamptz NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    judged_at timestamptz,
    announced_at timestamptz,
    PRIMARY KEY (item_id, source_updated_at)
);
CREATE INDEX missed_webhooks_unjudged ON pluggy_sync.missed_webhooks (found_at)
    WHERE judged_at IS NULL;

COMMENT ON COLUMN pluggy_sync.missed_webhooks.source_updated_at IS 'lastUpdatedAt of the item';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.collected_at IS 'the same moment by our clock';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.announced_at IS 'when a late webhook told of it all the same';
