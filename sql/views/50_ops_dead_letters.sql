-- Attempts and times are those of the step, as long as it has not recovered.
CREATE VIEW pluggy_ops.dead_letters AS
SELECT e.id, e.event, e.item_id, e.account_id, i.connector_id, i.connector_name, e.reason,
       e.error_id,
       coalesce(p.failure_class,
                CASE WHEN e.reason ~ '^4\d\d:' THEN 'reject' WHEN e.reason ~ '^5\d\d' THEN 'retry' END)
           AS failure_class,
       CASE WHEN e.reason = '404:ITEM_NOT_FOUND'
                THEN 'Pluggy does not know the item, and has sent no item/deleted: pluggy-sync items'
                     || ' deleted settles it.'
            WHEN e.reason = 'account_not_of_item' THEN 'The item has no such account at Pluggy.'
            WHEN e.reason LIKE '404:%' THEN 'Pluggy does not know what was asked for.'
            WHEN e.reason ~ '^4\d\d:' THEN 'Pluggy refuses this very thing; its support knows the error_id.'
            WHEN p.failure_class = 'retry' THEN 'Tried for three days: requeue it when the cause is fixed.'
            ELSE 'Requeue it when the cause is fixed.'
       END AS advice,
       p.attempts, p.failing_since AS first_failed_at,
       p.failed_at AS last_failed_at, e.accepted_at, e.settled_at AS died_at
FROM pluggy_sync.webhook_events e
LEFT JOIN pluggy.items i ON i.id = e.item_id
LEFT JOIN LATERAL (
    SELECT failure_class, attempts, failing_since, failed_at
    FROM pluggy_sync.product_sync p
    WHERE p.item_id = e.item_id AND p.failure_code = e.reason
    ORDER BY p.failed_at DESC NULLS LAST
    LIMIT 1
) AS p ON true
WHERE e.state = 'dead';

COMMENT ON VIEW pluggy_ops.dead_letters IS 'Events that were given up on, one row each';
COMMENT ON COLUMN pluggy_ops.dead_letters.id IS 'The id that dead-letters requeue takes';
COMMENT ON COLUMN pluggy_ops.dead_letters.event IS 'Name of the event';
COMMENT ON COLUMN pluggy_ops.dead_letters.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.dead_letters.account_id IS
    'The account that the event names; null: none';
COMMENT ON COLUMN pluggy_ops.dead_letters.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.dead_letters.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.dead_letters.reason IS 'Code that it died of';
COMMENT ON COLUMN pluggy_ops.dead_letters.error_id IS
    'errorId of Pluggy, or the x-request-id of its answer where it gave none; its support asks '
    'for it; null: there was no answer';
COMMENT ON COLUMN pluggy_ops.dead_letters.failure_class IS
    'reject (refused by Pluggy), retry (tried for three days), ...; null: not known any more';
COMMENT ON COLUMN pluggy_ops.dead_letters.advice IS 'How to fix it, a sentence for a person';
COMMENT ON COLUMN pluggy_ops.dead_letters.attempts IS
    'Tries of the step that fails; null: it has succeeded since';
COMMENT ON COLUMN pluggy_ops.dead_letters.first_failed_at IS
    'First failure of the step in a row, UTC; null: it has succeeded since';
COMMENT ON COLUMN pluggy_ops.dead_letters.last_failed_at IS
    'Last failure of the step, UTC; null: it has succeeded since';
COMMENT ON COLUMN pluggy_ops.dead_letters.accepted_at IS 'When the event was accepted, UTC';
COMMENT ON COLUMN pluggy_ops.dead_letters.died_at IS 'When it was given up on, UTC';
