-- Pluggy's tree of categories; parent_id is null for a root.
CREATE TABLE pluggy.categories (
    id text PRIMARY KEY,
    description text,
    description_translated text,
    parent_id text,
    parent_description text,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz
);
CREATE INDEX categories_run ON pluggy.categories (run_id);
