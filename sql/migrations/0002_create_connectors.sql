-- Banks and brokers that can be connected. They belong to no item and are the same for every client.
CREATE TABLE pluggy.connectors (
    id integer PRIMARY KEY,
    name text,
    type text,
    country text,
    institution_url text,
    image_url text,
    primary_color text,
    has_mfa boolean,
    oauth boolean,
    is_open_finance boolean,
    is_sandbox boolean,
    health_status text,
    health_stage text,
    products text[],
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz
);

COMMENT ON TABLE pluggy.connectors IS 'The institutions that Pluggy can connect; shared by all items';
CREATE INDEX connectors_run ON pluggy.connectors (run_id);
