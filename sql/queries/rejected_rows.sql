-- name: reject_rows
-- params: item_id, product, scope_id, run_id, row_ids, reasons, bodies
-- returns: none
INSERT INTO pluggy_sync.rejected_rows (item_id, product, scope_id, run_id, row_id, reason, body)
SELECT $1, $2, $3, $4, r.row_id, r.reason, r.body
FROM unnest($5::text[], $6::text[], $7::bytea[]) AS r(row_id, reason, body)
ON CONFLICT (item_id, product, scope_id, row_id) DO UPDATE
SET reason = excluded.reason, body = excluded.body, run_id = excluded.run_id,
    rejected_at = clock_timestamp();

-- name: accept_rejected_rows
-- params: item_id, product, ids
-- returns: none
-- Rows that can be read again.
DELETE FROM pluggy_sync.rejected_rows
WHERE item_id = $1 AND product = $2 AND row_id = ANY($3::uuid[]::text[]);
