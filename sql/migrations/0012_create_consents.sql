-- Open Finance consents of an item.
CREATE TABLE pluggy.consents (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    products text[],
    permissions text[],
    expires_at timestamptz,
    revoked_at timestamptz,
    source_created_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.consents IS 'Open Finance consents of an item';
CREATE INDEX consents_run ON pluggy.consents (run_id);
CREATE INDEX consents_expires ON pluggy.consents (expires_at)
    WHERE deleted_at IS NULL AND revoked_at IS NULL;
