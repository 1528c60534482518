-- Which sync may write an item, and until when. A table of its own, so that the heartbeat of a running sync
-- never blocks a receiver that bumps item_sync.
CREATE TABLE pluggy_sync.item_leases (
    item_id uuid PRIMARY KEY,
    token uuid,
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 70);

COMMENT ON TABLE pluggy_sync.item_leases IS
    'The lease on each item: every write of a sync checks its token';
COMMENT ON COLUMN pluggy_sync.item_leases.token IS 'Of the sync that holds it; null: released';
COMMENT ON COLUMN pluggy_sync.item_leases.until IS 'When it lapses, unless it is renewed before';

-- Held leases, for the backlog. It costs each claim some 200 bytes of WAL; a heartbeat changes no column of
-- it and stays HOT.
CREATE INDEX item_leases_live ON pluggy_sync.item_leases (item_id) WHERE token IS NOT NULL;
