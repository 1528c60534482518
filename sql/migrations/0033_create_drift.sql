-- What a verify had to repair although no newer collection explains it: rows that some webhook or
-- read of ours has missed. Written with the rows themselves, so that a killed verify counts too.
CREATE TABLE pluggy_sync.drift (
    run_id bigint NOT NULL,
    product text NOT NULL,
    scope_id uuid NOT NULL,
    item_id uuid NOT NULL,
    inserted integer NOT NULL,
    changed integer NOT NULL,
    deleted integer NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, product, scope_id)
);
CREATE INDEX drift_item ON pluggy_sync.drift (item_id);

ALTER TABLE pluggy_sync.account_walks ADD COLUMN verifies boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN pluggy_sync.account_walks.verifies IS 'what this walk changes is drift';
