-- name: load_open_ids
-- The next ids of an event's list that have not been asked for. $1 event, $2 ids done in this claim
-- (null: as stored), $3 most ids. Returns how many are done before them, and to which question of the
-- event that belongs.
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
-- A block has been answered; in its transaction. $1 event[], $2 pending_seq[], $3 ask_again_at[],
-- $4 ids done[], $5 whether one of them came back[].
INSERT INTO pluggy_sync.id_progress AS p (event_row_id, pending_seq, ask_again_at, done, came_back)
SELECT asked.event_row_id, asked.pending_seq, asked.ask_again_at, asked.done, asked.came_back
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::boolean[])
    AS asked(event_row_id, pending_seq, ask_again_at, done, came_back)
ORDER BY asked.event_row_id
ON CONFLICT (event_row_id) DO UPDATE
SET pending_seq = excluded.pending_seq, ask_again_at = excluded.ask_again_at, done = excluded.done,
    came_back = excluded.came_back OR (p.came_back AND p.pending_seq = excluded.pending_seq
        AND p.ask_again_at IS NOT DISTINCT FROM excluded.ask_again_at);
