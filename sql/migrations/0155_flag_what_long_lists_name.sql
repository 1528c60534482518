-- A list of deleted ids that names more rows than an account's limit allows is flagged whole, also when
-- another claim goes on with its next block: the decision is kept beside the progress.
ALTER TABLE pluggy_sync.id_progress ADD COLUMN flags_all boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN pluggy_sync.id_progress.flags_all IS
    'whether the rows that its event names as deleted are only flagged, for they are over the limit';
