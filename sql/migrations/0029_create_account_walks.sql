-- Reads of an account that are longer than one claim.
CREATE TABLE pluggy_sync.account_walks (
    item_id uuid NOT NULL,
    account_id uuid NOT NULL,
    walk_id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('walk', 'delta', 'recent')),
    lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 3),
    expects_rows boolean NOT NULL DEFAULT false,
    finds_candidates boolean NOT NULL DEFAULT false,
    verifies boolean NOT NULL DEFAULT false,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    pluggy_started_at timestamptz,
    read_seq bigint,
    read_since timestamptz,
    source_updated_at timestamptz,
    next text,
    pages integer NOT NULL DEFAULT 0,
    rows_seen bigint NOT NULL DEFAULT 0,
    restarts integer NOT NULL DEFAULT 0,
    read_at timestamptz,
    PRIMARY KEY (item_id, account_id)
) WITH (fillfactor = 70);

COMMENT ON TABLE pluggy_sync.account_walks IS 'Reads of an account under way, resumed page by page';
COMMENT ON COLUMN pluggy_sync.account_walks.kind IS
    'walk: all pages; delta or recent: such a read that has many pages';
COMMENT ON COLUMN pluggy_sync.account_walks.expects_rows IS 'Whether an empty answer proves nothing';
COMMENT ON COLUMN pluggy_sync.account_walks.finds_candidates IS
    'Whether rows that it does not list are asked for by id; only a read of all pages may';
COMMENT ON COLUMN pluggy_sync.account_walks.verifies IS 'Whether what it changes counts as drift';
COMMENT ON COLUMN pluggy_sync.account_walks.started_at IS 'Our clock at the first page; null: not begun';
COMMENT ON COLUMN pluggy_sync.account_walks.pluggy_started_at IS 'Pluggy''s clock at the first page';
COMMENT ON COLUMN pluggy_sync.account_walks.read_seq IS 'Its place in the order of all events and reads';
COMMENT ON COLUMN pluggy_sync.account_walks.read_since IS
    'createdAt from which it lists rows; null: all of them';
COMMENT ON COLUMN pluggy_sync.account_walks.next IS
    'Pluggy''s cursor of the page to read; null: the first one, or all are read';
COMMENT ON COLUMN pluggy_sync.account_walks.restarts IS
    'How often it began again because its cursor was refused';
COMMENT ON COLUMN pluggy_sync.account_walks.read_at IS
    'When its last page was read; null: there are more';
