-- name: start_walk
-- params: item_id, account_id, kind, lane, expects_rows? = null, source_updated_at? = null,
--     next? = null, started_at? = null, pluggy_started_at? = null, pages? = null,
--     rows_seen? = null, verifies? = null, read_since? = null, read_seq? = null, revives? = null,
--     token? = null, lease_for? = null
-- returns: one? Renewed
-- Asks for a walk of an account; a wider or better-laned ask replaces one that is under way.
-- revives: a dead step of the account is due again. token: outside of a page transaction, to check
-- and renew the lease; no row: the claim has ended.
WITH lease AS MATERIALIZED (
    SELECT $1::uuid AS item_id WHERE pluggy_sync.renew_lease($1, $16, $17)
), replaced AS (
    DELETE FROM pluggy_sync.walk_pages p USING pluggy_sync.account_walks w, lease l
    WHERE w.item_id = l.item_id AND w.account_id = $2 AND p.walk_id = w.walk_id
), revived AS (
    UPDATE pluggy_sync.product_sync p
    SET dead_at = NULL, dead_seq = NULL, attempts = 0, failing_since = NULL, next_try_at = NULL
    FROM lease l
    WHERE p.item_id = l.item_id AND p.scope_id = $2 AND p.product = 'transactions'
      AND p.dead_at IS NOT NULL AND $15
)
INSERT INTO pluggy_sync.account_walks AS stored
    (item_id, account_id, kind, lane, expects_rows, source_updated_at, next, started_at,
     pluggy_started_at, pages, rows_seen, verifies, read_since, read_seq)
SELECT item_id, $2::uuid, $3::text, $4::smallint, coalesce($5::boolean, false), $6::timestamptz,
       $7::text, $8::timestamptz, $9::timestamptz, coalesce($10::integer, 0),
       coalesce($11::bigint, 0), coalesce($12::boolean, false), $13::timestamptz, $14::bigint
FROM lease
ON CONFLICT (item_id, account_id) DO UPDATE SET
    kind = excluded.kind, lane = least(stored.lane, excluded.lane), expects_rows = excluded.expects_rows,
    source_updated_at = excluded.source_updated_at, next = excluded.next,
    started_at = excluded.started_at, pluggy_started_at = excluded.pluggy_started_at,
    pages = excluded.pages, rows_seen = excluded.rows_seen, verifies = excluded.verifies,
    read_since = excluded.read_since, read_seq = excluded.read_seq,
    finds_candidates = false, read_at = NULL, restarts = 0,
    asked_at = clock_timestamp()
RETURNING clock_timestamp() AS now,
          (SELECT generation FROM pluggy_sync.item_sync WHERE item_id = $1) AS generation;

-- name: note_unreadable_walk
-- params: item_id, account_id
-- returns: none
-- A walk stands for ids that an event named and nobody could read: the next one for this cause
-- waits a day.
UPDATE pluggy_sync.product_sync SET unreadable_walk_at = now()
WHERE item_id = $1 AND scope_id = $2 AND product = 'transactions';

-- name: load_walk
-- params: item_id, account_id
-- returns: one? WalkRow
-- nullable: started_at, pluggy_started_at, source_updated_at, next, read_at, read_since, read_seq
SELECT * FROM pluggy_sync.account_walks WHERE item_id = $1 AND account_id = $2;

-- name: begin_walk
-- params: item_id, account_id, started_at, pluggy_started_at, read_seq?
-- returns: one? WalkRow
-- nullable: started_at, pluggy_started_at, source_updated_at, next, read_at, read_since, read_seq
-- The first page has arrived. read_seq: the place of its start. A walk finds candidates if rows were
-- seen before that are not flagged as absent already.
UPDATE pluggy_sync.account_walks
SET started_at = $3, pluggy_started_at = $4, read_seq = $5,
    finds_candidates = kind = 'walk' AND EXISTS (
        SELECT FROM pluggy.transactions t
        WHERE t.item_id = $1 AND t.account_id = $2 AND t.deleted_at IS NULL
          AND t.deletion_flagged_at IS NULL AND t.first_seen_at < $3)
WHERE item_id = $1 AND account_id = $2
RETURNING *;

-- name: advance_walk
-- params: item_id, account_id, next?, rows, read_at?, cursor_hash?, listed, has_new_rows, now
-- returns: one? WalkRow
-- nullable: started_at, pluggy_started_at, source_updated_at, next, read_at, read_since, read_seq
-- A page has been stored. read_at is null while more pages are to come. listed: its ids, where the
-- walk finds candidates. has_new_rows: see pluggy_sync.hurry_deletions.
WITH page AS (
    INSERT INTO pluggy_sync.walk_pages (walk_id, cursor_hash, kind, ids)
    SELECT walk_id, $6, 'listed', $7::uuid[]
    FROM pluggy_sync.account_walks WHERE item_id = $1 AND account_id = $2
)
UPDATE pluggy_sync.account_walks
SET next = $3, pages = pages + 1, rows_seen = rows_seen + $4, read_at = $5
WHERE item_id = $1 AND account_id = $2
  AND CASE WHEN $8 THEN pluggy_sync.hurry_deletions($1, $2, $9) IS NOT NULL ELSE true END
RETURNING *;

-- name: add_walk_page
-- params: walk_id, kind, ids
-- returns: none
INSERT INTO pluggy_sync.walk_pages (walk_id, kind, ids) VALUES ($1, $2, $3::uuid[]);

-- name: restart_walk
-- params: item_id, account_id
-- returns: value?
-- Its cursor no longer works: its pages are read again from the first one, of what it has listed
-- before. Returns how often that was.
WITH pages AS (
    DELETE FROM pluggy_sync.walk_pages p USING pluggy_sync.account_walks w
    WHERE w.item_id = $1 AND w.account_id = $2 AND p.walk_id = w.walk_id
)
UPDATE pluggy_sync.account_walks
SET next = NULL, started_at = NULL, pluggy_started_at = NULL, read_seq = NULL, pages = 0,
    rows_seen = 0, read_at = NULL, finds_candidates = false, restarts = restarts + 1
WHERE item_id = $1 AND account_id = $2
RETURNING restarts;

-- name: count_rows_known
-- params: item_id, account_id, limit
-- returns: value
-- Rows of an account that were ever listed: no more are counted than the limit.
SELECT count(*) FROM (
    SELECT FROM pluggy.transactions WHERE item_id = $1 AND account_id = $2 LIMIT $3
) AS counted;

-- name: load_attempts
-- params: item_id, product, scope_id
-- returns: value?
-- How often a step has failed in a row.
SELECT attempts FROM pluggy_sync.product_sync
WHERE item_id = $1 AND product = $2 AND scope_id = $3;

-- name: load_deletion_candidates
-- params: item_id, account_id, walk_id, started_at?, limit
-- returns: values
-- Live rows that a walk has not listed and that nobody has asked for yet: first seen before it
-- began, dated within 365 days. NOT IN, because that is one look into a hash table a row, whatever
-- number of ids the planner expects. started_at: when the walk began.
SELECT t.id FROM pluggy.transactions t
WHERE t.item_id = $1 AND t.account_id = $2 AND t.deleted_at IS NULL
  AND t.first_seen_at < $4 AND t.date > now() - interval '365 days'
  AND t.id NOT IN (SELECT unnest(p.ids) FROM pluggy_sync.walk_pages p WHERE p.walk_id = $3)
ORDER BY t.id LIMIT $5;

-- name: load_absent
-- params: walk_id
-- returns: many AbsentId
-- Ids that were asked for and did not come back, by what that proves.
SELECT DISTINCT unnest(ids) AS id, kind FROM pluggy_sync.walk_pages
WHERE walk_id = $1 AND kind IN ('absent', 'waiting', 'unproven');

-- name: delete_absent
-- params: item_id, account_id, shown
-- returns: none
-- Rows that a walk asked for without an answer and that were shown since are no longer absent: the
-- walk asks for them again.
UPDATE pluggy_sync.walk_pages p
SET ids = ARRAY(SELECT id FROM unnest(p.ids) AS id WHERE id <> ALL ($3::uuid[]))
FROM pluggy_sync.account_walks w
WHERE w.item_id = $1 AND w.account_id = $2 AND p.walk_id = w.walk_id
  AND p.kind IN ('absent', 'waiting', 'unproven') AND p.ids && $3::uuid[];

-- name: finish_walk
-- params: item_id, account_id
-- returns: none
WITH walk AS (
    DELETE FROM pluggy_sync.account_walks WHERE item_id = $1 AND account_id = $2 RETURNING walk_id
)
DELETE FROM pluggy_sync.walk_pages p USING walk w WHERE p.walk_id = w.walk_id;

-- name: reset_owner
-- params: item_id, scope_id
-- returns: none
-- An account or an investment is gone: nothing of it is read any more.
WITH walks AS (
    DELETE FROM pluggy_sync.account_walks WHERE item_id = $1 AND account_id = $2 RETURNING walk_id
), pages AS (
    DELETE FROM pluggy_sync.walk_pages p USING walks w WHERE p.walk_id = w.walk_id
)
DELETE FROM pluggy_sync.product_sync WHERE item_id = $1 AND scope_id = $2;
