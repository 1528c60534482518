-- What Pluggy's answers hold that this release does not know: a field by its path, or a new value of a field
-- that had a known set of values. Never the value of any other field.
CREATE TABLE pluggy_sync.contract_drift (
    entity text NOT NULL,
    path text NOT NULL,
    value text NOT NULL DEFAULT '',
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    days integer NOT NULL DEFAULT 1,
    run_id bigint NOT NULL,
    PRIMARY KEY (entity, path, value)
);

COMMENT ON TABLE pluggy_sync.contract_drift IS
    'Fields and values of Pluggy that this release does not know';
COMMENT ON COLUMN pluggy_sync.contract_drift.value IS 'The new value; empty: the field itself is new';
COMMENT ON COLUMN pluggy_sync.contract_drift.days IS
    'On how many days it was seen; a day is written once, however many rows have it';
COMMENT ON COLUMN pluggy_sync.contract_drift.run_id IS 'The run that saw it first';
