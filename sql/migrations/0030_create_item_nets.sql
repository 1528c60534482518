-- The nets for what webhooks lose: when each acts next on an item, by our clock. look_at: a collection
-- was promised and nobody told of it; recent_read_at: rows were read since the last 14 days were; verify_at:
-- everything is read again. Items that are mirrored already are spread like new ones.
CREATE TABLE pluggy_sync.item_reconciliations (
    item_id uuid PRIMARY KEY,
    silence_check_at timestamptz,
    recent_read_at timestamptz,
    verify_at timestamptz NOT NULL
) WITH (fillfactor = 85);
CREATE INDEX item_reconciliations_silence_check ON pluggy_sync.item_reconciliations (silence_check_at) WHERE silence_check_at IS NOT NULL;
CREATE INDEX item_reconciliations_recent_read ON pluggy_sync.item_reconciliations (recent_read_at) WHERE recent_read_at IS NOT NULL;
CREATE INDEX item_reconciliations_verify ON pluggy_sync.item_reconciliations (verify_at);

COMMENT ON COLUMN pluggy_sync.item_reconciliations.silence_check_at IS
    'null: Pluggy does not update the item by itself, or its alarm has been ordered';

INSERT INTO pluggy_sync.item_reconciliations (item_id, silence_check_at, verify_at)
SELECT id, next_auto_sync_at + interval '15 minutes',
       now() + interval '1 day'
           + interval '5 days' * (('x' || left(md5(id::text), 8))::bit(32)::bigint / 4294967296.0)
FROM pluggy.items WHERE deleted_at IS NULL;

-- What one worker at a time does now and then: who moves due_at has the turn.
CREATE TABLE pluggy_sync.turns (
    name text PRIMARY KEY,
    due_at timestamptz NOT NULL DEFAULT '-infinity',
    done_at timestamptz,
    failure_code text
);
INSERT INTO pluggy_sync.turns (name) VALUES ('nets'), ('subscriptions');
