-- How far the reading of connectors and of categories is, and which worker reads them now.
CREATE TABLE pluggy_sync.reference_data_sync (
    product text PRIMARY KEY,
    token uuid,
    until timestamptz NOT NULL DEFAULT '-infinity',
    started_at timestamptz,
    complete_read_at timestamptz,
    read_seq bigint,
    absences_asked_at timestamptz,
    unknown_ids text[] NOT NULL DEFAULT '{}',
    incomplete_reason text,
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

COMMENT ON TABLE pluggy_sync.reference_data_sync IS
    'How far the reading of what belongs to no item is: connectors and categories';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.token IS 'Of the worker that reads; null: none does';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.until IS 'When its lease lapses';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.started_at IS
    'When the last read started, failed ones included: at most one a minute';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.complete_read_at IS
    'When the last complete read started';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.read_seq IS
    'Place of the last complete read: it answers events of a lower pending_seq';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.absences_asked_at IS
    'When rows missing from the list were last asked for by id';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.incomplete_reason IS
    'Why the list of the last complete read may have more rows than were read; null: it has none';
COMMENT ON COLUMN pluggy_sync.reference_data_sync.unknown_ids IS
    'Connectors of items that Pluggy does not know even by id; they are not asked for again';
