-- Functions for what several statements do alike. Nobody may call one unless roles.sql says so.

-- Deletes at most so many rows of a table that fulfil a condition, in which $1 is the value; returns how
-- many. The condition stands in the outer statement too: a row that was changed meanwhile is judged again.
-- Tables of schema pluggy are taken by id, for the place of a row says nothing on another shard.
CREATE FUNCTION pluggy_sync.delete_batch(
    of_table regclass, condition text, value anyelement, max_rows integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    deleted integer;
    key text := (SELECT CASE WHEN relnamespace = 'pluggy'::regnamespace THEN 'id' ELSE 'ctid' END
                 FROM pg_class WHERE oid = of_table);
BEGIN
    EXECUTE format('DELETE FROM %1$s WHERE %2$s AND %3$I IN (SELECT %3$I FROM %1$s WHERE %2$s LIMIT $2)',
                   of_table, condition, key)
    USING value, max_rows;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
REVOKE EXECUTE ON FUNCTION pluggy_sync.delete_batch(regclass, text, anyelement, integer) FROM PUBLIC;

-- Sets settled events of a state pending again and makes their items due, with locks in the order of
-- accept_events: events by id, then items by id. more_items: items that become due without an event.
-- Returns the events, and whether that made their item due.
CREATE FUNCTION pluggy_sync.revive_events(of_state text, event_ids bigint[], more_items uuid[])
RETURNS TABLE (id bigint, event text, item_id uuid, account_id uuid, made_due boolean)
LANGUAGE sql AS $$
    WITH revivable AS (
        SELECT e.id FROM pluggy_sync.webhook_events e
        WHERE e.id = ANY (event_ids) AND e.state = of_state
        ORDER BY e.id
        FOR UPDATE
    ), revived AS (
        UPDATE pluggy_sync.webhook_events e
        SET state = 'pending', reason = NULL, error_id = NULL, settled_at = NULL, ask_again_at = NULL,
            pending_since = clock_timestamp()
        FROM revivable r
        WHERE e.id = r.id AND e.state = of_state
        RETURNING e.id, e.event, e.item_id, e.account_id, e.lane
    ), affected AS (
        SELECT a.item_id, sum(a.events) AS events, min(a.lane) AS lane
        FROM (SELECT r.item_id, 1 AS events, r.lane FROM revived r
              UNION ALL
              SELECT s.item_id, 0, s.lane FROM pluggy_sync.item_sync s
              WHERE s.item_id = ANY (more_items)) AS a
        WHERE a.item_id IS NOT NULL
        GROUP BY a.item_id
    ), bumped AS (
        -- Inserted, because that alone locks in the order given.
        INSERT INTO pluggy_sync.item_sync AS s (item_id, generation, lane, run_at)
        SELECT a.item_id, a.events, a.lane, now() FROM affected a ORDER BY a.item_id
        ON CONFLICT (item_id) DO UPDATE
            SET generation = s.generation + excluded.generation,
                lane = least(s.lane, excluded.lane),
                run_at = least(s.run_at, excluded.run_at)
        RETURNING s.item_id, s.run_at = now() AS made_due
    ), leasable AS (
        INSERT INTO pluggy_sync.item_leases (item_id)
        SELECT b.item_id FROM bumped b
        WHERE NOT EXISTS (SELECT FROM pluggy_sync.item_leases l WHERE l.item_id = b.item_id)
        ORDER BY b.item_id
        ON CONFLICT (item_id) DO NOTHING
    )
    SELECT r.id, r.event, r.item_id, r.account_id, coalesce(b.made_due, false)
    FROM revived r
    LEFT JOIN bumped b ON b.item_id = r.item_id
    ORDER BY r.id
$$;
REVOKE EXECUTE ON FUNCTION pluggy_sync.revive_events(text, bigint[], uuid[]) FROM PUBLIC;

-- Stores the event of an item that was just connected (sync/register, once for an item) and makes the item
-- due; one that is dead or ignored is pending again. With the rights of its owner: who may call it can
-- register items, and store no other event.
CREATE FUNCTION pluggy_sync.register_item(of_item uuid)
RETURNS TABLE (is_new boolean, made_due boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_body bytea := convert_to(format('{"event": "sync/register", "itemId": "%s"}', of_item), 'UTF8');
    stored record;
BEGIN
    -- As settled, so that reviving it is all that makes it pending and its item due.
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, lane, state, reason, body, received_at, settled_at)
    VALUES ('register:' || of_item, sha256(own_body), 'sync/register', of_item, 0, 'ignored', 'item_unknown',
            own_body, clock_timestamp(), clock_timestamp())
    ON CONFLICT (event_id, body_sha256) DO NOTHING;
    SELECT e.id, e.state INTO stored FROM pluggy_sync.webhook_events e
    WHERE e.event_id = 'register:' || of_item AND e.body_sha256 = sha256(own_body);
    IF stored.state IN ('dead', 'ignored') THEN
        RETURN QUERY SELECT true, r.made_due FROM pluggy_sync.revive_events(
            stored.state, ARRAY[stored.id], ARRAY[]::uuid[]) AS r;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT false, false;
END $$;
REVOKE EXECUTE ON FUNCTION pluggy_sync.register_item(uuid) FROM PUBLIC;

-- Every table of schema pluggy with a column of this name: what is mirrored needs no list in SQL.
CREATE FUNCTION pluggy_sync.mirrored_tables(with_column text)
RETURNS TABLE (name text, relation regclass) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, c.oid::regclass
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = with_column AND NOT a.attisdropped
    WHERE c.relnamespace = 'pluggy'::regnamespace AND c.relkind IN ('r', 'p')
    ORDER BY c.relname
$$;

-- Those of these runs that a row names.
CREATE FUNCTION pluggy_sync.runs_of_rows(run_ids bigint[])
RETURNS SETOF bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    of_table regclass;
BEGIN
    FOR of_table IN SELECT relation FROM pluggy_sync.mirrored_tables('run_id') LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.id FROM unnest($1) AS r(id) WHERE EXISTS (SELECT FROM %s x WHERE x.run_id = r.id)',
            of_table)
        USING run_ids;
    END LOOP;
END $$;

-- How many rows there are of an item, tables without any left out.
CREATE FUNCTION pluggy_sync.count_rows_of(of_item uuid)
RETURNS TABLE (entity text, live bigint, deleted bigint, changed_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    mirrored record;
BEGIN
    FOR mirrored IN SELECT name, relation FROM pluggy_sync.mirrored_tables('item_id') LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, count(*) FILTER (WHERE deleted_at IS NULL), count(deleted_at), max(changed_at)'
            ' FROM %s WHERE item_id = $1 HAVING count(*) > 0', mirrored.name, mirrored.relation)
        USING of_item;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION pluggy_sync.mirrored_tables(text), pluggy_sync.runs_of_rows(bigint[]),
    pluggy_sync.count_rows_of(uuid) FROM PUBLIC;

-- A view of this schema, so that the views of dashboards, which are made again with every release, read only
-- the items of which something may be wrong: in a large database they are few. Its first two parts name the
-- conditions of partial indexes word by word.
CREATE VIEW pluggy_sync.items_not_fresh AS
SELECT item_id FROM pluggy_sync.product_sync
WHERE dead_at IS NOT NULL OR parked_at IS NOT NULL OR stale_reason IS NOT NULL
   OR incomplete_reason IS NOT NULL
UNION
SELECT id FROM pluggy.items
WHERE deleted_at IS NULL
  AND (status IS DISTINCT FROM 'UPDATED' OR execution_status = 'USER_AUTHORIZATION_REVOKED'
       OR next_auto_sync_at IS NULL OR has_resources_pending_authorization
       OR payload -> 'statusDetail' <> 'null')
UNION
SELECT id FROM pluggy.items WHERE next_auto_sync_at < now() - interval '1 day'
UNION
SELECT id FROM pluggy.items WHERE consent_expires_at <= now()
UNION
SELECT item_id FROM pluggy_sync.rejected_rows;

COMMENT ON VIEW pluggy_sync.items_not_fresh IS
    'Every item of which pluggy_ops.freshness calls a product stale or incomplete, and some others';
COMMENT ON COLUMN pluggy_sync.items_not_fresh.item_id IS
    'The item; all its products are judged by pluggy_ops.freshness';
