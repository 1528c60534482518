-- name: clock
-- returns: value
-- Postgres's time.
SELECT clock_timestamp() AS now;

-- name: postpone_items_list
-- params: pause
-- returns: none
-- The list is read again after the pause.
UPDATE pluggy_sync.periodic_task_leases SET due_at = clock_timestamp() + $1::interval
WHERE name = 'items_list';

-- name: load_items_list_failure
-- returns: value?
-- Why the list could not be read the last time; null: it could.
SELECT failure_code FROM pluggy_sync.periodic_task_leases
WHERE name = 'items_list' AND failure_code IS NOT NULL;

-- name: store_unknown_items
-- params: listed, complete
-- returns: values
-- listed: ids of Pluggy's list, its newest first; complete: whether it is all of the list. Returns
-- those that are not held, in the order given. One that was deleted within a day may be in a list
-- that was read meanwhile.
WITH asked AS (
    SELECT item_id FROM unnest($1::uuid[]) AS l(item_id) UNION SELECT item_id FROM pluggy_sync.unknown_items
), stored AS MATERIALIZED (
    SELECT id AS item_id, deleted_at IS NULL OR deleted_at > now() - interval '1 day' AS is_known
    FROM pluggy.items WHERE id = ANY (ARRAY(SELECT item_id FROM asked))
), unknown AS (
    SELECT l.item_id, l.place FROM unnest($1::uuid[]) WITH ORDINALITY AS l(item_id, place)
    WHERE NOT EXISTS (SELECT FROM stored s WHERE s.item_id = l.item_id AND s.is_known)
), obsolete AS (
    DELETE FROM pluggy_sync.unknown_items u
    WHERE NOT EXISTS (SELECT FROM unknown n WHERE n.item_id = u.item_id)
      AND ($2 OR EXISTS (SELECT FROM stored s WHERE s.item_id = u.item_id))
), inserted AS (
    INSERT INTO pluggy_sync.unknown_items (item_id) SELECT item_id FROM unknown ORDER BY item_id
    ON CONFLICT (item_id) DO NOTHING
)
SELECT item_id FROM unknown ORDER BY place;

-- name: find_unlisted_items
-- params: listed, known_since, limit
-- returns: values
-- Live items that a complete list omits, those first that were read longest ago; not those of
-- MeuPluggy, which Pluggy never lists, and not those that already answer 404. known_since: the start
-- of the list. NOT IN with a SELECT, because that is one look into a hash table an item; an array is
-- compared id by id once Postgres keeps the plan.
WITH unlisted AS (
    SELECT id FROM pluggy.items
    WHERE deleted_at IS NULL AND ended_at IS NULL AND connector_id IS DISTINCT FROM 200
      AND first_seen_at < $2 AND id NOT IN (SELECT unnest($1::uuid[]))
)
SELECT u.id
FROM unlisted u
LEFT JOIN pluggy_sync.product_sync p ON p.item_id = u.id AND p.product = 'items'
WHERE p.dead_at IS NULL
ORDER BY p.complete_read_at NULLS FIRST, u.id
LIMIT $3;
