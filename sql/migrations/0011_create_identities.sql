-- Who the account holder is: the most personal table.
CREATE TABLE pluggy.identities (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    full_name text,
    company_name text,
    document text,
    document_type text,
    tax_number text,
    birth_date date,
    job_title text,
    investor_profile text,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.identities IS 'The person or the company that an item belongs to';
CREATE INDEX identities_run ON pluggy.identities (run_id);
