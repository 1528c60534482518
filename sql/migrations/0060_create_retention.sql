-- Where the walk over old runs is: it goes on from run_id, and begins again once a day.
CREATE TABLE pluggy_sync.retention_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    run_id bigint NOT NULL DEFAULT 0,
    rests_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO pluggy_sync.retention_cursor DEFAULT VALUES;
INSERT INTO pluggy_sync.turns (name) VALUES ('retention');
