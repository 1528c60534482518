-- name: add_delivery_counts
-- params: minutes, events, answers, deliveries
-- returns: none
INSERT INTO pluggy_sync.delivery_counts AS stored (minute, event, answer, deliveries)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[])
ORDER BY 1, 2, 3
ON CONFLICT (minute, event, answer) DO UPDATE SET deliveries = stored.deliveries + excluded.deliveries;
