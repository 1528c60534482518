-- How far the reading of connectors and of categories is, and which worker is at it (token, until).
CREATE TABLE pluggy_sync.reference_data_sync (
    product text PRIMARY KEY,
    token uuid,
    until timestamptz NOT NULL DEFAULT '-infinity',
    started_at timestamptz,
    complete_read_at timestamptz,
    absences_asked_at timestamptz,
    unknown_ids text[] NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    failed_at timestamptz,
    next_try_at timestamptz,
    dead_at timestamptz,
    failure_class text,
    failure_code text,
    error_id text
);
INSERT INTO pluggy_sync.reference_data_sync (product) VALUES ('connectors'), ('categories');

COMMENT ON COLUMN pluggy_sync.reference_data_sync.started_at IS
    'when the last read was begun, also one that failed: at most one a minute';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.complete_read_at IS
    'when the last complete read was begun';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.unknown_ids IS
    'connectors of items that Pluggy does not know even by id, not asked for again';
