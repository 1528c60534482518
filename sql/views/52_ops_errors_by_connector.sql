-- Two sources: what the bank did not give Pluggy at an item's last collection (product null; since is the
-- last good one), and the reads that fail (since the first failure in a row).
CREATE VIEW pluggy_ops.errors_by_connector AS
WITH errors AS (
    SELECT i.connector_id, i.connector_name, i.id AS item_id, NULL AS product,
           lower(coalesce(i.execution_status, i.status)) AS error,
           CASE i.status WHEN 'LOGIN_ERROR' THEN 'user' ELSE 'bank' END AS blocked_on,
           i.last_updated_at AS since, NULL::timestamptz AS last_failed_at, NULL AS error_id
    FROM pluggy.items i
    -- IS DISTINCT FROM is a condition of the index items_not_well, which can be used by it.
    WHERE i.deleted_at IS NULL AND i.status IN ('OUTDATED', 'LOGIN_ERROR')
      AND i.status IS DISTINCT FROM 'UPDATED'
    UNION ALL
    SELECT i.connector_id, i.connector_name, p.item_id, p.product, p.failure_code,
           CASE p.failure_class WHEN 'retry' THEN 'pluggy' ELSE 'us' END,
           coalesce(p.failing_since, p.dead_at), p.failed_at, p.error_id
    FROM pluggy_sync.product_sync p
    LEFT JOIN pluggy.items i ON i.id = p.item_id
    -- BETWEEN: by the index product_sync_not_well, as in items_not_fresh.
    WHERE i.deleted_at IS NULL AND (p.attempts > 0 OR p.dead_at IS NOT NULL)
      AND p.item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'
), totals AS (
    -- Two counts that read indexes alone, but for the deleted items.
    SELECT a.connector_id, a.items - coalesce(d.items, 0) AS items
    FROM (SELECT connector_id, count(*) AS items FROM pluggy.items GROUP BY connector_id) AS a
    LEFT JOIN (SELECT connector_id, count(*) AS items FROM pluggy.items
               WHERE deleted_at IS NOT NULL GROUP BY connector_id) AS d
        ON d.connector_id = a.connector_id
)
SELECT e.connector_id, e.connector_name, c.health_status, e.product, e.error, e.blocked_on,
       count(DISTINCT e.item_id) AS items,
       coalesce(t.items, 0) AS of_items,
       min(e.since) AS since, max(e.last_failed_at) AS last_failed_at,
       (array_agg(e.error_id ORDER BY e.last_failed_at DESC NULLS LAST)
        FILTER (WHERE e.error_id IS NOT NULL))[1] AS error_id
FROM errors e
LEFT JOIN pluggy.connectors c ON c.id = e.connector_id
LEFT JOIN totals t ON t.connector_id = e.connector_id
GROUP BY e.connector_id, e.connector_name, c.health_status, e.product, e.error, e.blocked_on,
         t.items
ORDER BY items DESC, e.connector_id, e.product, e.error;

COMMENT ON VIEW pluggy_ops.errors_by_connector IS
    'Errors by bank: products that it did not deliver at an item''s last collection, and our reads '
    'that fail';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.health_status IS
    'ONLINE, UNSTABLE or OFFLINE by Pluggy; null: not known';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.product IS
    'Our table name of the reads that fail; null: the bank did not deliver at the last '
    'collection';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.error IS
    'Code of the failure, or status of the item';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.blocked_on IS
    'The party that has to act: us (the operators of this service), pluggy, bank or user';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.items IS 'Items that have it';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.of_items IS 'Stored items of the bank';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.since IS 'Since when, UTC; null: not known';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.last_failed_at IS
    'Last failed read, UTC; null: no read of ours fails';
COMMENT ON COLUMN pluggy_ops.errors_by_connector.error_id IS
    'errorId of Pluggy, or the x-request-id of its answer where it gave none; its support asks '
    'for it; null: there was no answer';
