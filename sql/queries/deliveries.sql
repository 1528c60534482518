-- name: add_delivery_counts
-- $1 minute[], $2 event[], $3 answer[], $4 deliveries[].
INSERT INTO pluggy_sync.delivery_counts AS held (minute, event, answer, deliveries)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[])
ORDER BY 1, 2, 3
ON CONFLICT (minute, event, answer) DO UPDATE SET deliveries = held.deliveries + excluded.deliveries;
