-- What a verify had to repair although no newer collection explains it: a webhook or a read of ours missed
-- these rows. Written with the rows themselves, so that a verify that is killed counts too.
CREATE TABLE pluggy_sync.drift (
    item_id uuid NOT NULL,
    run_id bigint NOT NULL,
    product text NOT NULL,
    scope_id uuid NOT NULL,
    inserted integer NOT NULL,
    changed integer NOT NULL,
    deleted integer NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, product, scope_id)
);

COMMENT ON TABLE pluggy_sync.drift IS 'Rows that a verify had to repair, by run and step';
COMMENT ON COLUMN pluggy_sync.drift.scope_id IS
    'The account or the investment that Pluggy lists by; the nil UUID: the whole item';

CREATE INDEX drift_item ON pluggy_sync.drift (item_id);
