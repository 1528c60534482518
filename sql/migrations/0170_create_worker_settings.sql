-- What views need to know of the workers' settings: the zone that decides the day of a row and which
-- days are still to come, and the rate limit that decides how many replicas can be fed.
CREATE TABLE pluggy_sync.worker_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    posted_on_zone text NOT NULL DEFAULT 'America/Sao_Paulo',
    requests_per_minute integer NOT NULL DEFAULT 360,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO pluggy_sync.worker_settings DEFAULT VALUES;

COMMENT ON COLUMN pluggy_sync.worker_settings.posted_on_zone IS
    'POSTED_ON_ZONE of the worker that started last, if Postgres knows a zone of this name';
COMMENT ON COLUMN pluggy_sync.worker_settings.requests_per_minute IS
    'PLUGGY_REQUESTS_PER_MINUTE of the worker that started last';
