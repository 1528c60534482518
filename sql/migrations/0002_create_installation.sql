-- One database mirrors one Pluggy application: its client id and base URL are remembered at the first
-- start, because another application answers 404 for every item of this one.
CREATE TABLE pluggy_sync.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    client_id text NOT NULL,
    base_url text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The halt of everything that talks to Pluggy, because of us (halt) or of Pluggy (down); halted_at
-- null: running.
CREATE TABLE pluggy_sync.halts (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    halted_at timestamptz,
    failure_code text,
    advice text,
    probe_every interval,
    probe_at timestamptz,
    resumed_at timestamptz
);
INSERT INTO pluggy_sync.halts DEFAULT VALUES;
