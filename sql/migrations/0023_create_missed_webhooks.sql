-- Collections that a missed-webhook check found before any webhook announced them. Three hours later,
-- after Pluggy's last attempt, it is decided whether a webhook came after all.
CREATE TABLE pluggy_sync.missed_webhooks (
    item_id uuid NOT NULL,
    source_updated_at timestamptz NOT NULL,
    collected_at timestamptz NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    judged_at timestamptz,
    announced_at timestamptz,
    PRIMARY KEY (item_id, source_updated_at)
);

COMMENT ON TABLE pluggy_sync.missed_webhooks IS
    'Collections that were found before any webhook announced them';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.source_updated_at IS 'lastUpdatedAt of the item';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.collected_at IS 'The same moment by our clock';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.judged_at IS
    'When it was decided; null: within the three hours';
COMMENT ON COLUMN pluggy_sync.missed_webhooks.announced_at IS
    'When a late webhook announced it after all; null: none did';

CREATE INDEX missed_webhooks_unjudged ON pluggy_sync.missed_webhooks (found_at)
    WHERE judged_at IS NULL;
