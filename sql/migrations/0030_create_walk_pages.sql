-- The ids that a walk has seen: a walk that is killed repeats at most a page, and missing rows can be found.
CREATE TABLE pluggy_sync.walk_pages (
    walk_id bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    cursor_hash bytea,
    kind text NOT NULL CHECK (kind IN ('listed', 'returned', 'absent', 'waiting', 'unproven')),
    ids uuid[] NOT NULL,
    PRIMARY KEY (walk_id, id)
);

COMMENT ON TABLE pluggy_sync.walk_pages IS 'Ids that a walk under way has listed or asked for';
COMMENT ON COLUMN pluggy_sync.walk_pages.cursor_hash IS
    'Of the cursor of the page, to notice one that comes twice; null: the first page, or a question by id';
COMMENT ON COLUMN pluggy_sync.walk_pages.kind IS
    'listed: on a page. Asked by id: returned (it exists), absent (older and newer witnesses came back and it'
    ' did not), waiting (no older row exists, so the same question decides a day later), unproven (a witness'
    ' was missing too)';

CREATE UNIQUE INDEX walk_pages_cursor ON pluggy_sync.walk_pages (walk_id, cursor_hash)
    WHERE cursor_hash IS NOT NULL;
