-- Functions for what several statements do alike. Nobody may call one of them unless roles.sql says so, but
-- for the first: who reads a view calls what it is made of.

-- The number with the words for one or for many, such as 1 item and 2000 items; counted() of the commands
-- does the same. number::text, because || of a number itself is not immutable, and the call would not be
-- inlined.
CREATE FUNCTION pluggy_sync.counted(number bigint, one text, many text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT number::text || ' ' || CASE number WHEN 1 THEN one ELSE many END
$$;

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
-- accept_events: events by id, then items by id. more_items: items that become due without an event; it is
-- counted like one, or a claim under way would settle such an item as one without work.
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
              SELECT s.item_id, 1, s.lane FROM pluggy_sync.item_sync s
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

-- Ends the claim of an item, if one is under way: it may write nothing any more, and the item, which is still
-- due, is claimed again. With the rights of its owner: who may call it can lease no item.
CREATE FUNCTION pluggy_sync.end_claim(of_item uuid) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE pluggy_sync.item_leases SET token = NULL, until = '-infinity' WHERE item_id = of_item
    RETURNING item_id
$$;
REVOKE EXECUTE ON FUNCTION pluggy_sync.end_claim(uuid) FROM PUBLIC;

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

-- Whether the lease on an item is held by this token; it is renewed then, as by fence. No token: the caller
-- has checked it.
CREATE FUNCTION pluggy_sync.renew_lease(of_item uuid, by_token uuid, lease_for interval)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF by_token IS NULL THEN
        RETURN true;
    END IF;
    UPDATE pluggy_sync.item_leases SET until = clock_timestamp() + lease_for
    WHERE item_id = of_item AND token = by_token
        AND set_config('idle_in_transaction_session_timeout', '15s', true) IS NOT NULL;
    RETURN FOUND;
END $$;

-- Marks a complete read of a step, whose last page has committed; what failed is over. It replaces the marks
-- of reads that started before it, whatever their values, and none of a read that started later: so an odd
-- time of Pluggy lives as long as one read. walk_from null: no walk; new_fingerprint null: keep; since null:
-- all was read; place: that of its start. A walk covers the recent days too. A list is complete in itself,
-- transactions only when walked: what was set aside before and was not met again is not there any more.
-- why_incomplete: why the list may have more rows; then it verifies nothing, and what was set aside stays.
-- has_rows: it had some, so that none are awaited any more. parked_at stays: by it free_steps finds the
-- events that were settled without this step. Returns the item's generation. Generic plans: the
-- rows are found by their keys whatever the values, and a session would plan each statement five times more.
CREATE FUNCTION pluggy_sync.mark_complete(
    of_item uuid, of_product text, of_scope uuid, read_from timestamptz, collected_at timestamptz,
    reached timestamptz, walk_from timestamptz, new_fingerprint text, since timestamptz, place bigint,
    why_incomplete text, has_rows boolean
) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    DELETE FROM pluggy_sync.rejected_rows
    WHERE item_id = of_item AND product = of_product AND scope_id = of_scope AND rejected_at < read_from
      AND (of_product <> 'transactions' OR walk_from IS NOT NULL) AND why_incomplete IS NULL;
    INSERT INTO pluggy_sync.product_sync AS p
        (item_id, product, scope_id, complete_read_at, source_updated_at, watermark, read_since, read_seq,
         walked_at, walked_seq, recent_at, recent_seq, verified_at, fingerprint, first_read_at,
         incomplete_reason)
    SELECT of_item, of_product, of_scope, read_from, collected_at, reached, since, place,
           walk_from, w.walked_seq, walk_from, w.walked_seq,
           CASE WHEN of_product = 'transactions' THEN walk_from
                WHEN why_incomplete IS NULL THEN read_from END,
           new_fingerprint, read_from, why_incomplete
    FROM (SELECT CASE WHEN walk_from IS NOT NULL THEN place END AS walked_seq) AS w
    ON CONFLICT (item_id, product, scope_id) DO UPDATE SET
        (complete_read_at, source_updated_at, watermark, read_since, read_seq) = (
            SELECT r.complete_read_at, r.source_updated_at, r.watermark, r.read_since, r.read_seq
            -- A list that is read again because its owner is gone is given no time: the mark stays.
            FROM (VALUES (1, excluded.complete_read_at,
                          coalesce(excluded.source_updated_at, p.source_updated_at),
                          excluded.watermark, excluded.read_since, excluded.read_seq),
                         (2, p.complete_read_at, p.source_updated_at, p.watermark, p.read_since, p.read_seq))
                AS r(place, complete_read_at, source_updated_at, watermark, read_since, read_seq)
            ORDER BY r.read_seq DESC NULLS LAST, r.place LIMIT 1),
        (recent_at, recent_seq) = (
            SELECT r.recent_at, r.recent_seq
            FROM (VALUES (1, excluded.recent_at, excluded.recent_seq), (2, p.recent_at, p.recent_seq))
                AS r(place, recent_at, recent_seq)
            ORDER BY r.recent_seq DESC NULLS LAST, r.recent_at IS NULL, r.place LIMIT 1),
        -- Walks of an account follow each other, and so do the reads of a list.
        walked_at = coalesce(excluded.walked_at, p.walked_at),
        walked_seq = coalesce(excluded.walked_seq, p.walked_seq),
        verified_at = coalesce(excluded.verified_at, p.verified_at),
        fingerprint = coalesce(excluded.fingerprint, p.fingerprint),
        first_read_at = CASE WHEN p.complete_read_at IS NULL THEN excluded.first_read_at
                             ELSE p.first_read_at END,
        incomplete_reason = excluded.incomplete_reason,
        confirm_at = CASE WHEN has_rows THEN NULL ELSE p.confirm_at END,
        awaits_rows = p.awaits_rows AND has_rows IS NOT TRUE,
        attempts = 0, failing_since = NULL, next_try_at = NULL, dead_at = NULL, dead_seq = NULL,
        deferred_since = NULL, failed_at = NULL, failure_class = NULL, failure_code = NULL, error_id = NULL,
        failure_endpoint = NULL, stale_reason = NULL;
    RETURN (SELECT generation FROM pluggy_sync.item_sync WHERE item_id = of_item);
END $$;

-- After a complete read: a list that has been empty since its first read is read again 5 s, 30 s, 2 min and
-- 5 min after that, unless Pluggy does not collect the product for this item at all. has_rows: whether there
-- were rows (null: the stored rows decide); collected_as: Pluggy's name of the product (null: it is always
-- collected).
CREATE FUNCTION pluggy_sync.expect_first_rows(
    of_item uuid, of_product text, of_scope uuid, has_rows boolean, collected_as text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    WITH rechecks AS (
        SELECT p.first_read_at, p.complete_read_at,
               NOT coalesce(has_rows, EXISTS (
                   SELECT FROM pluggy.transactions t WHERE t.item_id = of_item AND t.account_id = of_scope))
               AND NOT EXISTS (SELECT FROM pluggy.items i
                               WHERE i.id = of_item AND NOT collected_as = ANY (i.products)) AS is_awaited
        FROM pluggy_sync.product_sync p
        WHERE p.item_id = of_item AND p.product = of_product AND p.scope_id = of_scope
          AND (p.awaits_rows OR p.first_read_at = p.complete_read_at)
    ), next AS (
        SELECT (SELECT min(l.first_read_at + after)
                FROM unnest(ARRAY['5 s', '30 s', '2 min', '5 min']::interval[]) AS after
                WHERE l.is_awaited AND l.first_read_at + after > l.complete_read_at) AS confirm_at
        FROM rechecks l
    )
    UPDATE pluggy_sync.product_sync p
    SET confirm_at = next.confirm_at, awaits_rows = next.confirm_at IS NOT NULL
    FROM next
    WHERE p.item_id = of_item AND p.product = of_product AND p.scope_id = of_scope
      AND (p.awaits_rows OR next.confirm_at IS NOT NULL);
    RETURN FOUND;
END $$;

-- After a read of transactions: the last 14 days are due within a day of the first read behind the last time
-- that they were; nothing is due if no account owes them.
CREATE FUNCTION pluggy_sync.plan_recent_read(of_item uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    WITH owing AS (
        SELECT scope_id FROM pluggy_sync.product_sync
        WHERE item_id = of_item AND product = 'transactions' AND read_seq > coalesce(recent_seq, 0)
    )
    UPDATE pluggy_sync.item_reconciliations n
    SET recent_read_at = CASE WHEN d.owes THEN now() + interval '23 hours' END
    FROM (SELECT EXISTS (
              SELECT FROM pluggy.accounts a JOIN owing o ON o.scope_id = a.id
              WHERE a.item_id = of_item AND a.deleted_at IS NULL) AS owes) AS d
    WHERE n.item_id = of_item AND (n.recent_read_at IS NOT NULL) <> d.owes;
    RETURN FOUND;
END $$;

-- Closes a run, unless it is closed, and gives it its place in the feed. run: by the columns of runs.
-- Commits of runs go one at a time, so that seq follows commit order. The lock for that (run_order) is
-- taken by the closing statement itself: taken before it, a worker that stands still in between would hold
-- all others up. Inside a transaction the standstill before COMMIT is bounded instead.
CREATE FUNCTION pluggy_sync.close_run(run jsonb, run_order bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(run_order), set_config('idle_in_transaction_session_timeout', '5s', true);
    UPDATE pluggy_sync.runs r
    SET seq = nextval('pluggy_sync.run_seq'), finished_at = clock_timestamp(), outcome = c.outcome,
        event_ids = coalesce(c.event_ids, r.event_ids),
        seen = c.seen, inserted = c.inserted, changed = c.changed, deleted = c.deleted,
        unchanged = c.unchanged, older_skipped = c.older_skipped, rejected = c.rejected,
        api_requests = c.api_requests, plan = c.plan, error_id = coalesce(r.error_id, c.error_id)
    FROM jsonb_populate_record(NULL::pluggy_sync.runs, run) AS c
    WHERE r.id = c.id AND r.finished_at IS NULL
    RETURNING r.seq INTO place;
    RETURN place;
END $$;

-- The item that would be claimed next, if there is one. The lanes are tried one after the other, so that
-- items that are not due in a better lane are never scanned.
CREATE FUNCTION pluggy_sync.next_due_item(lowest_lane smallint) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT found.item_id
    FROM (VALUES (0), (1), (2), (3)) AS lanes(lane)
    CROSS JOIN LATERAL (
        SELECT s.item_id
        FROM pluggy_sync.item_sync s
        JOIN pluggy_sync.item_leases l USING (item_id)
        WHERE s.lane = lanes.lane AND lanes.lane <= lowest_lane
          AND s.run_at <= now() AND l.until <= now()
          AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
        ORDER BY s.run_at
        LIMIT 1
    ) AS found
    LIMIT 1);
END $$;

-- The time of an item's next missed-webhook check (null: never); a new item also gets its first verify,
-- whose time is spread by the hash of its id.
CREATE FUNCTION pluggy_sync.set_webhook_check(of_item uuid, check_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pluggy_sync.item_reconciliations AS n (item_id, webhook_check_at, verify_at)
    VALUES (of_item, check_at, now() + interval '1 day'
        + interval '5 days' * (('x' || left(md5(of_item::text), 8))::bit(32)::bigint / 4294967296.0))
    ON CONFLICT (item_id) DO UPDATE SET webhook_check_at = excluded.webhook_check_at
    WHERE n.webhook_check_at IS DISTINCT FROM excluded.webhook_check_at;
    RETURN true;
END $$;

-- An account has new rows: those that no witness could be found for are asked again now.
CREATE FUNCTION pluggy_sync.hurry_deletions(of_item uuid, of_account uuid, due_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pluggy_sync.item_reconciliations SET deletions_at = due_at
    WHERE item_id = of_item AND (deletions_at IS NULL OR deletions_at > due_at)
      AND EXISTS (SELECT FROM pluggy.transactions
                  WHERE item_id = of_item AND account_id = of_account AND deletion_flagged_at IS NOT NULL
                    AND deletion_flag = 'no_witness' AND missing_since IS NULL AND deleted_at IS NULL);
    RETURN FOUND;
END $$;

-- Marks a complete read of an account's transactions; each statement sees what those before it have written.
-- A read that began after a part of the overlap (narrow) does not move the watermark to up_to, Pluggy's clock
-- at its start. Then it is noted for how long deltas may start after the overlap, and by when all of it is
-- read again: only if it has more rows than a page, else reading it costs no more; of a first walk the rows
-- show up late, so it is read again whatever it has. narrow_for: how long deltas may be narrow. has_new_rows:
-- it brought rows that may be the witnesses that the account lacked. Generic plans as in mark_complete.
CREATE FUNCTION pluggy_sync.complete_transactions(
    of_item uuid, of_account uuid, read_from timestamptz, collected_at timestamptz, up_to timestamptz,
    since timestamptz, place bigint, walked boolean, page_rows integer, narrow_for interval,
    overlap interval, collected_as text, has_new_rows boolean
) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    reached timestamptz := (SELECT watermark FROM pluggy_sync.product_sync
                            WHERE item_id = of_item AND product = 'transactions' AND scope_id = of_account);
    narrow boolean := coalesce(since > reached - overlap, false);
    free_rows integer := CASE WHEN reached IS NULL THEN 0 ELSE page_rows END;
    generation bigint := pluggy_sync.mark_complete(
        of_item, 'transactions', of_account, read_from, collected_at,
        CASE WHEN narrow THEN reached ELSE up_to END,
        CASE WHEN walked THEN read_from END, NULL, since, place, NULL, NULL);
BEGIN
    IF has_new_rows THEN
        PERFORM pluggy_sync.hurry_deletions(of_item, of_account, clock_timestamp());
    END IF;
    PERFORM pluggy_sync.plan_recent_read(of_item);
    WITH step AS (
        SELECT watermark FROM pluggy_sync.product_sync
        WHERE item_id = of_item AND product = 'transactions' AND scope_id = of_account
    ), newest AS (
        SELECT EXISTS (
            SELECT FROM pluggy.transactions t
            WHERE t.item_id = of_item AND t.account_id = of_account
              AND t.source_created_at >= s.watermark - overlap
            -- So by the index of this time: Postgres expects an item's account to have one row.
            ORDER BY t.source_created_at
            OFFSET free_rows) AS is_long
        FROM step s
    )
    UPDATE pluggy_sync.product_sync p
    SET read_up_to = up_to,
        narrow_until = CASE
            WHEN narrow THEN p.narrow_until
            WHEN n.is_long AND NOT walked
                THEN least(clock_timestamp() + narrow_for, read_from + overlap) END,
        wide_by = CASE
            WHEN narrow OR p.wide_by > read_from AND p.wide_by <= read_from + overlap THEN p.wide_by
            WHEN n.is_long THEN read_from + overlap END,
        wide_ordered = p.wide_ordered
            AND coalesce(narrow OR p.wide_by > read_from AND p.wide_by <= read_from + overlap, false)
    FROM newest n
    WHERE p.item_id = of_item AND p.product = 'transactions' AND p.scope_id = of_account;
    PERFORM pluggy_sync.expect_first_rows(of_item, 'transactions', of_account, NULL, collected_as);
    RETURN generation;
END $$;
REVOKE EXECUTE ON FUNCTION
    pluggy_sync.renew_lease(uuid, uuid, interval),
    pluggy_sync.mark_complete(uuid, text, uuid, timestamptz, timestamptz, timestamptz, timestamptz, text,
        timestamptz, bigint, text, boolean),
    pluggy_sync.expect_first_rows(uuid, text, uuid, boolean, text),
    pluggy_sync.plan_recent_read(uuid),
    pluggy_sync.complete_transactions(uuid, uuid, timestamptz, timestamptz, timestamptz, timestamptz, bigint,
        boolean, integer, interval, interval, text, boolean),
    pluggy_sync.hurry_deletions(uuid, uuid, timestamptz),
    pluggy_sync.close_run(jsonb, bigint),
    pluggy_sync.next_due_item(smallint),
    pluggy_sync.set_webhook_check(uuid, timestamptz)
FROM PUBLIC;
