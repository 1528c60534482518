-- Pluggy's tree of transaction categories.
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

COMMENT ON TABLE pluggy.categories IS 'The categories of transactions; shared by all items';
COMMENT ON COLUMN pluggy.categories.parent_id IS 'The category above this one; null: a root';

CREATE INDEX categories_run ON pluggy.categories (run_id);
