-- What goes wrong at each bank, most items first: a bank that is down is shown here and not handled in
-- any other way. Two sources: what the bank did not give Pluggy at an item's last collection (product
-- null; since is the last good one), and the reads that fail (since the first failure in a row).
CREATE VIEW pluggy_ops.errors_by_connector AS
WITH errors AS (
    SELECT i.connector_id, i.connector_name, i.id AS item_id, NULL AS product,
           lower(coalesce(i.execution_status, i.status)) AS error,
           CASE i.status WHEN 'LOGIN_ERROR' THEN 'user' ELSE 'bank' END AS blocked_on,
           i.last_updated_at AS since, NULL::timestamptz AS last_failed_at, NULL AS error_id
    FROM pluggy.items i
    WHERE i.deleted_at IS NULL AND i.status IN ('OUTDATED', 'LOGIN_ERROR')
    UNION ALL
    SELECT i.connector_id, i.connector_name, p.item_id, p.product, p.failure_code,
           CASE p.failure_class WHEN 'retry' THEN 'pluggy' ELSE 'us' END,
           coalesce(p.failing_since, p.dead_at), p.failed_at, p.error_id
    FROM pluggy_sync.product_sync p
    LEFT JOIN pluggy.items i ON i.id = p.item_id
    WHERE i.deleted_at IS NULL AND (p.attempts > 0 OR p.dead_at IS NOT NULL)
)
SELECT e.connector_id, e.connector_name, c.health_status, e.product, e.error, e.blocked_on,
       CASE e.blocked_on WHEN 'user' THEN 'person' ELSE e.blocked_on END AS blocked_on_whom,
       count(DISTINCT e.item_id) AS items,
       (SELECT count(*) FROM pluggy.items i
        WHERE i.connector_id = e.connector_id AND i.deleted_at IS NULL) AS of_items,
       min(e.since) AS since, max(e.last_failed_at) AS last_failed_at,
       (array_agg(e.error_id ORDER BY e.last_failed_at DESC NULLS LAST)
        FILTER (WHERE e.error_id IS NOT NULL))[1] AS error_id
FROM errors e
LEFT JOIN pluggy.connectors c ON c.id = e.connector_id
GROUP BY e.connector_id, e.connector_name, c.health_status, e.product, e.error, e.blocked_on
ORDER BY items DESC, e.connector_id, e.product, e.error;
