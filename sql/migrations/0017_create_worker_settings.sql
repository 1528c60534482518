-- Settings of the workers that views need: the zone that decides the day of a row and which days are in the
-- future, the rate limit that decides how many replicas it can feed, and whether items of withdrawn
-- connectors are kept.
CREATE TABLE pluggy_sync.worker_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    posted_on_zone text NOT NULL DEFAULT 'America/Sao_Paulo',
    requests_per_minute integer NOT NULL DEFAULT 360,
    keep_ended boolean NOT NULL DEFAULT true,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO pluggy_sync.worker_settings DEFAULT VALUES;

COMMENT ON TABLE pluggy_sync.worker_settings IS 'One row: settings of the worker that started last';
COMMENT ON COLUMN pluggy_sync.worker_settings.posted_on_zone IS
    'POSTED_ON_ZONE of the worker that started last, if Postgres knows a zone of this name';
COMMENT ON COLUMN pluggy_sync.worker_settings.requests_per_minute IS
    'PLUGGY_REQUESTS_PER_MINUTE of the worker that started last';
COMMENT ON COLUMN pluggy_sync.worker_settings.keep_ended IS
    'KEEP_ENDED of the worker that started last';
