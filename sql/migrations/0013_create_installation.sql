-- The Pluggy application that this database mirrors, remembered at the first start. Another application
-- answers 404 for every item of this one, so every process refuses to start with another one.
CREATE TABLE pluggy_sync.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    client_id text NOT NULL,
    base_url text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE pluggy_sync.installation IS
    'The Pluggy application that this database mirrors; one row after the first start';
COMMENT ON COLUMN pluggy_sync.installation.base_url IS
    'Base URL of the API; simulator for any loopback address';
