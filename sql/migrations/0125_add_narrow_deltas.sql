-- After a large import a delta that reads the whole overlap lists the import again, so some deltas may
-- start later. Those move no watermark, and a read of the whole overlap is ordered beforehand.
ALTER TABLE pluggy_sync.product_sync
    ADD COLUMN read_up_to timestamptz,
    ADD COLUMN narrow_until timestamptz,
    ADD COLUMN wide_by timestamptz,
    ADD COLUMN wide_ordered boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN pluggy_sync.product_sync.read_up_to IS
    'Pluggy''s clock when the newest complete read of transactions started, a narrow delta too';
COMMENT ON COLUMN pluggy_sync.product_sync.narrow_until IS
    'until then (our clock) a delta may start after the overlap, which was long and has just been read';
COMMENT ON COLUMN pluggy_sync.product_sync.wide_by IS
    'when (our clock) the whole overlap is read again, with or without an event; null: with the next delta';
COMMENT ON COLUMN pluggy_sync.product_sync.wide_ordered IS 'the event of our own for wide_by is stored';
COMMENT ON COLUMN pluggy_sync.product_sync.watermark IS
    'Pluggy''s clock (Date header) when the newest complete walk or delta of the whole overlap started';
CREATE INDEX product_sync_wide ON pluggy_sync.product_sync (wide_by)
    WHERE wide_by IS NOT NULL AND NOT wide_ordered;
