-- name: load_open_ids
-- params: event_id, done?, limit
-- returns: one? OpenIdsRow
-- nullable: ask_again_at, ids
-- The next ids of an event's list that have not been asked for. done: ids done in this claim (null:
-- as stored). Returns how many are done before them, and to which question of the event that
-- belongs.
SELECT e.pending_seq, e.ask_again_at, e.done,
       e.transaction_ids[e.done + 1 : e.done + $3::integer] AS ids
FROM (
    SELECT e.transaction_ids, e.pending_seq, e.ask_again_at,
           coalesce($2::integer, p.done, 0) AS done
    FROM pluggy_sync.webhook_events e
    LEFT JOIN pluggy_sync.id_progress p
        ON p.event_row_id = e.id AND p.pending_seq = e.pending_seq
        AND p.ask_again_at IS NOT DISTINCT FROM e.ask_again_at
    WHERE e.id = $1
) AS e;

-- name: note_ids_asked
-- params: event_ids, pending_seqs, ask_again_ats[?], dones, came_backs
-- returns: none
-- A block has been answered; in its transaction.
INSERT INTO pluggy_sync.id_progress AS p (event_row_id, pending_seq, ask_again_at, done, came_back)
SELECT asked.event_row_id, asked.pending_seq, asked.ask_again_at, asked.done, asked.came_back
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::boolean[])
    AS asked(event_row_id, pending_seq, ask_again_at, done, came_back)
ORDER BY asked.event_row_id
ON CONFLICT (event_row_id) DO UPDATE
SET pending_seq = excluded.pending_seq, ask_again_at = excluded.ask_again_at, done = excluded.done,
    came_back = excluded.came_back OR (p.came_back AND p.pending_seq = excluded.pending_seq
        AND p.ask_again_at IS NOT DISTINCT FROM excluded.ask_again_at),
    marks_all = p.marks_all AND p.pending_seq = excluded.pending_seq
        AND p.ask_again_at IS NOT DISTINCT FROM excluded.ask_again_at;

-- name: count_named_rows
-- params: item_id, account_id, event_ids, absent, asked
-- returns: one NamedCounts
-- Rows that events name as deleted, that we hold live and that no person has said to keep: those
-- that a block was answered without, and those still to be asked for. absent: ids that the block
-- was answered without; asked: ids asked for in this claim. marks_all: it was decided in an earlier
-- block that all stay pending; nothing is counted then.
WITH named AS MATERIALIZED (
    -- LATERAL, here and below: by their keys, whatever the tables held when the plan was made.
    SELECT e.transaction_ids[coalesce(p.done, 0) + 1 :] AS ids, coalesce(p.marks_all, false) AS marks_all
    FROM unnest($3::bigint[]) AS naming(id)
    CROSS JOIN LATERAL (
        SELECT * FROM pluggy_sync.webhook_events WHERE id = naming.id LIMIT 1) AS e
    LEFT JOIN pluggy_sync.id_progress p
        ON p.event_row_id = e.id AND p.pending_seq = e.pending_seq
        AND p.ask_again_at IS NOT DISTINCT FROM e.ask_again_at
), decided AS (
    SELECT coalesce(bool_or(marks_all), false) AS marks_all FROM named
), ids AS (
    SELECT id, true AS open FROM named, decided, unnest(named.ids) AS id
    WHERE NOT decided.marks_all AND id NOT IN (SELECT unnest($5::uuid[]))
    UNION
    SELECT id, false FROM unnest($4::uuid[]) AS id
)
SELECT (SELECT marks_all FROM decided), count(*) FILTER (WHERE ids.open) AS open,
       count(*) FILTER (WHERE NOT ids.open) AS absent
FROM ids
CROSS JOIN LATERAL (
    SELECT * FROM pluggy.transactions WHERE item_id = $1 AND id = ids.id LIMIT 1) AS t
WHERE t.account_id = $2 AND t.deleted_at IS NULL AND t.deletion_refused_at IS NULL;

-- name: mark_all_named
-- params: event_ids
-- returns: none
-- What these events name stays a pending deletion, in this block and in those to come.
INSERT INTO pluggy_sync.id_progress AS p (event_row_id, pending_seq, ask_again_at, done, marks_all)
SELECT e.id, e.pending_seq, e.ask_again_at, 0, true
FROM unnest($1::bigint[]) AS naming(id)
CROSS JOIN LATERAL (SELECT * FROM pluggy_sync.webhook_events WHERE id = naming.id LIMIT 1) AS e
ORDER BY e.id
ON CONFLICT (event_row_id) DO UPDATE SET marks_all = true;
