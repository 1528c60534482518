-- Up to which run deletions have been searched for restatements.
CREATE TABLE pluggy_sync.restatement_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL DEFAULT 0
);
INSERT INTO pluggy_sync.restatement_cursor DEFAULT VALUES;

COMMENT ON TABLE pluggy_sync.restatement_cursor IS 'One row: how far the search for restatements is';
COMMENT ON COLUMN pluggy_sync.restatement_cursor.seq IS 'runs.seq up to which deletions were searched';
