-- The circuit breaker of everything that talks to Pluggy.
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

COMMENT ON TABLE pluggy_sync.halts IS
    'One row: whether all work is halted, because of us (credentials) or of Pluggy (it is down)';
COMMENT ON COLUMN pluggy_sync.halts.halted_at IS 'Since when; null: running';
COMMENT ON COLUMN pluggy_sync.halts.advice IS 'One sentence for the operator; null: running';
COMMENT ON COLUMN pluggy_sync.halts.probe_at IS 'When the next probe is due; null: running';
COMMENT ON COLUMN pluggy_sync.halts.resumed_at IS 'When the last halt ended; null: there was none';
