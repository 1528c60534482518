-- name: lock_restatements
-- One worker at a time, until the transaction ends. $1 advisory lock key.
SELECT pg_try_advisory_xact_lock($1) AS locked;

-- name: load_runs_to_check
-- Runs after the cursor, in feed order. has_rested: two minutes have passed, for what else the same
-- collection tells comes within seconds. writes: worth a look, and the item has no newer run that would
-- bring one anyway. Lost runs have no counts, but may have written. $1 most runs.
SELECT r.seq, r.item_id, r.finished_at, r.finished_at <= now() - interval '2 minutes' AS has_rested,
       r.kind IN ('sync', 'walk', 'flag') AND r.item_id IS NOT NULL
           AND (r.inserted > 0 OR r.deleted > 0 OR r.outcome = 'lost'
                OR EXISTS (SELECT FROM pluggy.transactions t
                           WHERE t.item_id = r.item_id AND t.run_id = r.id
                             AND t.deletion_flagged_at IS NOT NULL))
           AND NOT EXISTS (
               SELECT FROM pluggy_sync.runs n
               WHERE n.item_id = r.item_id AND n.id > r.id AND n.kind IN ('sync', 'walk', 'flag')
                 AND (n.finished_at IS NULL
                      OR (n.finished_at > now() - interval '2 minutes'
                          AND (n.inserted > 0 OR n.deleted > 0 OR n.outcome = 'lost')))) AS writes
FROM pluggy_sync.runs r
WHERE r.seq > (SELECT c.seq FROM pluggy_sync.restatement_cursor c)
ORDER BY r.seq LIMIT $1;

-- name: advance_restatement_cursor
-- $1 seq.
UPDATE pluggy_sync.restatement_cursor SET seq = $1;

-- name: load_deleted
-- Tombstones of an item that nothing is linked to yet, of accounts that are still there; and rows that
-- are flagged as absent, deleted_at then says since when.
-- $1 item, $2 deleted after, $3 most rows.
SELECT t.account_id, t.id, t.amount, t.currency_code, t.posted_on, t.description,
       t.source_created_at, t.first_seen_at,
       coalesce(t.deleted_at, t.deletion_flagged_at) AS deleted_at, t.deleted_at IS NULL AS is_flagged
FROM pluggy.transactions t
JOIN pluggy.accounts a ON a.item_id = t.item_id AND a.id = t.account_id
WHERE t.item_id = $1 AND a.deleted_at IS NULL
  AND (t.deleted_at > $2 OR (t.deleted_at IS NULL AND t.deletion_flagged_at > $2))
  AND NOT EXISTS (SELECT FROM pluggy_sync.restatements r
                  WHERE r.item_id = t.item_id AND r.id = t.id)
ORDER BY t.account_id, t.id LIMIT $3;

-- name: load_created
-- Rows that may stand for deleted ones: of the account, first seen within the time given, dated near
-- them, and not taken. $1 item, $2 account, $3 first seen from, $4 to, $5 dated from, $6 to, $7 created
-- at Pluggy after (null: whenever), $8 most rows.
SELECT t.account_id, t.id, t.amount, t.currency_code, t.posted_on, t.description,
       t.source_created_at, t.first_seen_at, t.deleted_at
FROM pluggy.transactions t
WHERE t.item_id = $1 AND t.account_id = $2 AND t.first_seen_at BETWEEN $3 AND $4
  AND t.deletion_flagged_at IS NULL
  AND t.date BETWEEN $5::date AND $6::date
  AND ($7::timestamptz IS NULL OR t.source_created_at IS NULL OR t.source_created_at > $7)
  AND NOT EXISTS (SELECT FROM pluggy_sync.restatements r
                  WHERE r.item_id = t.item_id AND r.superseded_by = t.id)
ORDER BY t.id LIMIT $8;

-- name: load_void_restatements
-- Links of rows that Pluggy shows again. $1 item.
SELECT r.id FROM pluggy_sync.restatements r
JOIN pluggy.transactions t ON t.item_id = r.item_id AND t.id = r.id
WHERE r.item_id = $1 AND t.deleted_at IS NULL AND t.deletion_flagged_at IS NULL;

-- name: load_linked_flags
-- Flagged rows whose replacement is known: they are deleted without a person. $1 most items.
SELECT t.item_id, array_agg(t.id ORDER BY t.id) AS ids
FROM pluggy.transactions t
JOIN pluggy_sync.restatements r ON r.item_id = t.item_id AND r.id = t.id
WHERE t.deletion_flagged_at IS NOT NULL AND t.deleted_at IS NULL
GROUP BY t.item_id ORDER BY t.item_id LIMIT $1;

-- name: remove_restatements
-- $1 item, $2 ids of what had been deleted.
DELETE FROM pluggy_sync.restatements WHERE item_id = $1 AND id = ANY ($2::uuid[]);

-- name: add_restatements
-- $1 item, $2 run, $3 deleted id[], $4 superseded_by[], $5 account[], $6 confidence[], $7 reason[].
INSERT INTO pluggy_sync.restatements
    (item_id, run_id, id, superseded_by, account_id, confidence, reason)
SELECT $1, $2, l.* FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::numeric[], $7::text[]) AS l
ON CONFLICT DO NOTHING
RETURNING id;
