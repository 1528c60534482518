-- name: reject_rows
-- $1 item, $2 product, $3 scope, $4 run, $5 row id[], $6 reason[], $7 body[].
INSERT INTO pluggy_sync.rejected_rows (item_id, product, scope_id, run_id, row_id, reason, body)
SELECT $1, $2, $3, $4, r.row_id, r.reason, r.body
FROM unnest($5::text[], $6::text[], $7::bytea[]) AS r(row_id, reason, body)
ON CONFLICT (item_id, product, scope_id, row_id) DO UPDATE
SET reason = excluded.reason, body = excluded.body, run_id = excluded.run_id,
    rejected_at = clock_timestamp();

-- name: accept_rejected_rows
-- Rows that can be read again. $1 item, $2 product, $3 row ids.
DELETE FROM pluggy_sync.rejected_rows
WHERE item_id = $1 AND product = $2 AND row_id = ANY($3::text[]);
