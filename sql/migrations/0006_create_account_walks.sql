-- A read of an account that is longer than one claim; next is Pluggy's cursor of the page to read.
-- kind walk: all pages, asks about what is missing; kind delta: a delta that has many pages.
CREATE TABLE pluggy_sync.account_walks (
    item_id uuid NOT NULL,
    account_id uuid NOT NULL,
    walk_id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('walk', 'delta')),
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    expects_rows boolean NOT NULL DEFAULT false,
    finds_candidates boolean NOT NULL DEFAULT false,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    pluggy_started_at timestamptz,
    source_updated_at timestamptz,
    next text,
    pages integer NOT NULL DEFAULT 0,
    rows_seen bigint NOT NULL DEFAULT 0,
    read_at timestamptz,
    PRIMARY KEY (item_id, account_id)
) WITH (fillfactor = 70);

-- What a walk has seen, so that a killed walk loses at most a page and absence can be computed.
CREATE TABLE pluggy_sync.walk_pages (
    walk_id bigint NOT NULL,
    page integer NOT NULL,
    cursor_hash bytea,
    kind text NOT NULL CHECK (kind IN ('listed', 'returned', 'absent')),
    ids uuid[] NOT NULL,
    PRIMARY KEY (walk_id, page)
);
CREATE UNIQUE INDEX walk_pages_cursor ON pluggy_sync.walk_pages (walk_id, cursor_hash)
    WHERE cursor_hash IS NOT NULL;
