-- name: close_lost_runs
-- params: item_id, token, lock
-- returns: values
-- First act after a claim: runs of this item that a dead or fenced worker left open can commit
-- nothing more, so they get their place in the feed, in turn as close_run says. Under the lock of
-- the lease: a claim that stood still until the next one would close a run that is written to.
WITH lease AS (
    SELECT item_id FROM pluggy_sync.item_leases WHERE item_id = $1 AND token = $2 FOR UPDATE
), in_order AS MATERIALIZED (SELECT pg_advisory_xact_lock($3) FROM lease)
UPDATE pluggy_sync.runs
SET outcome = 'lost', finished_at = clock_timestamp(), seq = nextval('pluggy_sync.run_seq')
FROM in_order
WHERE item_id = $1 AND finished_at IS NULL
RETURNING id;

-- name: open_run_of_lease
-- params: item_id, token, lease_for, kind, event_ids
-- returns: one? OpenedRun
-- The fence and the run that it lets open, in one statement. 0 rows: fenced off.
WITH lease AS (
    UPDATE pluggy_sync.item_leases SET until = clock_timestamp() + $3::interval
    WHERE item_id = $1 AND token = $2
    RETURNING item_id
)
INSERT INTO pluggy_sync.runs (item_id, kind, event_ids)
SELECT item_id, $4::text, $5::bigint[] FROM lease
RETURNING id, clock_timestamp() AS now,
          (SELECT generation FROM pluggy_sync.item_sync WHERE item_id = $1) AS generation;

-- name: open_run
-- params: item_id?, kind, event_ids
-- returns: value
INSERT INTO pluggy_sync.runs (item_id, kind, event_ids) VALUES ($1, $2, $3) RETURNING id;

-- name: close_run
-- params: run, lock
-- returns: none
-- Closes a run that no settlement closes. run: by the columns of runs, as JSON.
SELECT pluggy_sync.close_run($1::jsonb, $2);

-- name: note_run_failure
-- params: run_id?, code, error_id?
-- returns: none
-- The last one stays; also the last errorId, if a later failure has none.
UPDATE pluggy_sync.runs SET failure_code = $2, error_id = coalesce($3, error_id) WHERE id = $1;
