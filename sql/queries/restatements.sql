-- name: lock_restatements
-- params: lock
-- returns: value
-- One worker at a time, until the transaction ends.
SELECT pg_try_advisory_xact_lock($1) AS locked;

-- name: load_runs_to_check
-- params: limit
-- returns: many RunToCheck
-- nullable: item_id
-- Runs after the cursor, in feed order. has_rested: two minutes have passed, for what else the same
-- collection tells comes within seconds. writes: worth a look, and the item has no newer run that
-- would bring one anyway. Lost runs have no counts, but may have written.
WITH next AS (
    SELECT id, seq, item_id, kind, outcome, inserted, deleted, finished_at
    FROM pluggy_sync.runs
    WHERE seq > (SELECT c.seq FROM pluggy_sync.restatement_cursor c)
    ORDER BY seq LIMIT $1
)
SELECT r.seq, r.item_id, r.finished_at, r.finished_at <= now() - interval '2 minutes' AS has_rested,
       r.kind IN ('sync', 'walk', 'deletion_review') AND r.item_id IS NOT NULL
           AND (r.inserted > 0 OR r.deleted > 0 OR r.outcome = 'lost'
                OR EXISTS (SELECT FROM pluggy.transactions t
                           WHERE t.item_id = r.item_id AND t.run_id = r.id
                             AND t.deletion_flagged_at IS NOT NULL))
           AND NOT EXISTS (
               SELECT FROM pluggy_sync.runs n
               WHERE n.item_id = r.item_id AND n.id > r.id AND n.kind IN ('sync', 'walk', 'deletion_review')
                 AND (n.finished_at IS NULL
                      OR (n.finished_at > now() - interval '2 minutes'
                          AND (n.inserted > 0 OR n.deleted > 0 OR n.outcome = 'lost')))) AS writes
FROM next r
ORDER BY r.seq;

-- name: advance_restatement_cursor
-- params: seq
-- returns: none
UPDATE pluggy_sync.restatement_cursor SET seq = $1;

-- name: load_deleted
-- params: item_id, deleted_after, limit
-- returns: many DeletedRow
-- nullable: currency_code, description, source_created_at
-- Tombstones of an item that nothing is linked to yet, of accounts that are still there; and rows
-- whose deletion is pending, deleted_at then says since when.
WITH linked AS (
    SELECT id FROM pluggy_sync.restatements WHERE item_id = $1
)
SELECT t.account_id, t.id, t.amount, t.currency_code, t.posted_on, t.description,
       t.source_created_at, t.first_seen_at,
       coalesce(t.deleted_at, t.deletion_flagged_at) AS deleted_at, t.deleted_at IS NULL AS awaits_decision
FROM (
    -- Apart, so that each is found by its partial index: an item may have a million other rows.
    SELECT * FROM pluggy.transactions
    WHERE item_id = $1 AND deleted_at IS NOT NULL AND deleted_at > $2
    UNION ALL
    SELECT * FROM pluggy.transactions
    WHERE item_id = $1 AND deletion_flagged_at IS NOT NULL AND deletion_flagged_at > $2
      AND deleted_at IS NULL
) AS t
JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
WHERE a.deleted_at IS NULL AND t.id NOT IN (SELECT id FROM linked)
ORDER BY t.account_id, t.id LIMIT $3;

-- name: load_created
-- params: item_id, account_id, seen_from, seen_to, dated_from, dated_to, created_after?, limit
-- returns: many CreatedRow
-- nullable: currency_code, description, source_created_at, deleted_at
-- Rows that may stand for deleted ones: of the account, first seen within the time given, dated
-- near them, and not taken. created_after: at Pluggy (null: whenever).
WITH taken AS (
    SELECT superseded_by FROM pluggy_sync.restatements WHERE item_id = $1
)
SELECT t.account_id, t.id, t.amount, t.currency_code, t.posted_on, t.description,
       t.source_created_at, t.first_seen_at, t.deleted_at
FROM pluggy.transactions t
WHERE t.item_id = $1 AND t.account_id = $2 AND t.first_seen_at BETWEEN $3 AND $4
  AND t.deletion_flagged_at IS NULL
  AND t.date BETWEEN $5::date AND $6::date
  AND ($7::timestamptz IS NULL OR t.source_created_at IS NULL OR t.source_created_at > $7)
  AND t.id NOT IN (SELECT superseded_by FROM taken)
ORDER BY t.id LIMIT $8;

-- name: load_void_restatements
-- params: item_id
-- returns: values
-- Links of rows that Pluggy shows again.
WITH links AS (
    SELECT id FROM pluggy_sync.restatements WHERE item_id = $1
)
SELECT t.id FROM links l JOIN pluggy.transactions t ON t.id = l.id
WHERE t.item_id = $1 AND t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL;

-- name: load_linked_deletions
-- params: limit
-- returns: many LinkedDeletions
-- Pending deletions whose replacement is known: they are deleted without a person.
WITH links AS (
    SELECT item_id, id FROM pluggy_sync.restatements
)
SELECT t.item_id, array_agg(t.id ORDER BY t.id) AS ids
FROM pluggy.transactions t
JOIN links l ON l.item_id = t.item_id AND l.id = t.id
WHERE t.deletion_flagged_at IS NOT NULL AND t.deleted_at IS NULL
GROUP BY t.item_id ORDER BY t.item_id LIMIT $1;

-- name: remove_restatements
-- params: item_id, ids
-- returns: none
-- ids: of what had been deleted.
DELETE FROM pluggy_sync.restatements WHERE item_id = $1 AND id = ANY ($2::uuid[]);

-- name: add_restatements
-- params: item_id, run_id, ids, superseded_bys, account_ids, confidences, reasons
-- returns: values
INSERT INTO pluggy_sync.restatements
    (item_id, run_id, id, superseded_by, account_id, confidence, reason)
SELECT $1, $2, l.* FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::numeric[], $7::text[]) AS l
ON CONFLICT DO NOTHING
RETURNING id;
