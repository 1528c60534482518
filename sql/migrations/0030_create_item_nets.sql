-- The nets for what webhooks lose: when each acts next on an item, by our clock. look_at: a collection
-- was promised and nobody told of it; reread_at: rows were read since the last 14 days were; verify_at:
-- everything is read again. Items that are mirrored already are spread like new ones.
CREATE TABLE pluggy_sync.item_nets (
    item_id uuid PRIMARY KEY,
    look_at timestamptz,
    reread_at timestamptz,
    verify_at timestamptz NOT NULL
) WITH (fillfactor = 85);
CREATE INDEX item_nets_look ON pluggy_sync.item_nets (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX item_nets_reread ON pluggy_sync.item_nets (reread_at) WHERE reread_at IS NOT NULL;
CREATE INDEX item_nets_verify ON pluggy_sync.item_nets (verify_at);

COMMENT ON COLUMN pluggy_sync.item_nets.look_at IS
    'null: Pluggy does not update the item by itself, or its alarm has been ordered';

INSERT INTO pluggy_sync.item_nets (item_id, look_at, verify_at)
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
