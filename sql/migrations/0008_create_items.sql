CREATE TABLE pluggy.items (
    id uuid PRIMARY KEY,
    connector_id integer,
    connector_name text,
    connector_is_open_finance boolean,
    status text,
    execution_status text,
    error_code text,
    client_user_id text,
    products text[],
    source_created_at timestamptz,
    source_updated_at timestamptz,
    last_updated_at timestamptz,
    next_auto_sync_at timestamptz,
    consent_expires_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz
) WITH (fillfactor = 85);
CREATE INDEX items_run ON pluggy.items (run_id);
