-- The database roles of the service, by `pluggy-sync migrate --roles`: nobody holds more than it needs.
-- Each may log in, but none has a password until the operator gives it one (docs/roles.md).
--   pluggy_receiver   accepts events and counts deliveries; cannot read what it has stored
--   pluggy_worker     reads and writes the mirror and its state; cannot migrate
--   pluggy_ops        reads state and figures, no payload; requeues, decides on deletions, registers items
--   pluggy_dashboard  reads pluggy_ops

-- name: create_roles
-- Roles belong to the whole server; of another database's installation they are the same.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pluggy_receiver', 'pluggy_worker', 'pluggy_ops', 'pluggy_dashboard'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
        END IF;
    END LOOP;
END $$;

-- name: set_time_outs
-- For this database. Behind the time-outs of the processes themselves: they end what a process that is
-- gone has left behind. What is set already is left alone, so that repeating this asks for no right.
DO $$
DECLARE
    wanted record;
    stored text[];
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('pluggy_receiver', 'statement_timeout', '6s'),
            ('pluggy_receiver', 'lock_timeout', '5s'),
            ('pluggy_receiver', 'idle_in_transaction_session_timeout', '10s'),
            ('pluggy_worker', 'statement_timeout', '30s'),
            ('pluggy_worker', 'lock_timeout', '20s'),
            ('pluggy_worker', 'idle_in_transaction_session_timeout', '60s'),
            ('pluggy_ops', 'statement_timeout', '30s'),
            ('pluggy_ops', 'lock_timeout', '15s'),
            ('pluggy_ops', 'idle_in_transaction_session_timeout', '30s'),
            ('pluggy_dashboard', 'statement_timeout', '30s'),
            ('pluggy_dashboard', 'lock_timeout', '5s'),
            ('pluggy_dashboard', 'idle_in_transaction_session_timeout', '30s'),
            ('pluggy_dashboard', 'default_transaction_read_only', 'on')
        ) AS w(role, setting, value)
    LOOP
        SELECT s.setconfig INTO stored
        FROM pg_db_role_setting s
        JOIN pg_roles r ON r.oid = s.setrole
        JOIN pg_database d ON d.oid = s.setdatabase
        WHERE r.rolname = wanted.role AND d.datname = current_database();
        IF (wanted.setting || '=' || wanted.value) = ANY (coalesce(stored, '{}')) THEN
            CONTINUE;
        END IF;
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = %L',
                       wanted.role, current_database(), wanted.setting, wanted.value);
    END LOOP;
END $$;

-- name: grant_rights
-- Grants all rights again, so that none of an older release is left; runs after every migration.
REVOKE ALL ON ALL TABLES IN SCHEMA pluggy, pluggy_live, pluggy_sync, pluggy_ops
    FROM pluggy_receiver, pluggy_worker, pluggy_ops, pluggy_dashboard;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA pluggy_sync
    FROM pluggy_receiver, pluggy_worker, pluggy_ops, pluggy_dashboard;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pluggy_sync
    FROM pluggy_receiver, pluggy_worker, pluggy_ops, pluggy_dashboard;
REVOKE ALL ON SCHEMA pluggy, pluggy_live, pluggy_sync, pluggy_ops
    FROM pluggy_receiver, pluggy_worker, pluggy_ops, pluggy_dashboard;

-- The receiver: what accept_events and the counts touch. It never reads a body.
GRANT USAGE ON SCHEMA pluggy_sync TO pluggy_receiver;
GRANT INSERT (event_id, body_sha256, event, item_id, account_id, transaction_ids, created_at_from,
              expected_rows, lane, state, reason, body, received_at, connector_id, settled_at),
      SELECT (id, event_id, body_sha256, item_id, lane, state),
      UPDATE (state, reason, error_id, settled_at, ask_again_at, pending_since, item_id, account_id,
              transaction_ids, created_at_from, expected_rows, connector_id)
    ON pluggy_sync.webhook_events TO pluggy_receiver;
GRANT USAGE ON SEQUENCE pluggy_sync.pending_seq TO pluggy_receiver;
GRANT INSERT (item_id, generation, lane, run_at), SELECT, UPDATE (generation, lane, run_at)
    ON pluggy_sync.item_sync TO pluggy_receiver;
GRANT INSERT (item_id), SELECT (item_id) ON pluggy_sync.item_leases TO pluggy_receiver;
GRANT INSERT, SELECT, UPDATE (deliveries) ON pluggy_sync.delivery_counts TO pluggy_receiver;

-- The worker: rows, but no table, no view and no record of what was migrated, adopted or purged.
GRANT USAGE ON SCHEMA pluggy, pluggy_sync TO pluggy_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pluggy, pluggy_sync TO pluggy_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA pluggy_sync TO pluggy_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pluggy_sync TO pluggy_worker;
REVOKE ALL ON pluggy_sync.migrations FROM pluggy_worker;
REVOKE UPDATE, DELETE ON pluggy_sync.installation, pluggy_sync.purge_receipts FROM pluggy_worker;

-- Who looks and decides: our state but balances and the bodies of events and of rejected rows, and
-- of the mirror the items without payload, and how many rows there are of what.
GRANT USAGE ON SCHEMA pluggy, pluggy_sync, pluggy_ops TO pluggy_ops;
GRANT SELECT ON ALL TABLES IN SCHEMA pluggy_sync, pluggy_ops TO pluggy_ops;
REVOKE ALL ON pluggy_sync.migrations, pluggy_sync.webhook_events, pluggy_sync.rejected_rows,
    pluggy_sync.balance_snapshots FROM pluggy_ops;
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS relation,
               string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS readable
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind = 'r'
          AND CASE WHEN c.oid IN ('pluggy_sync.webhook_events'::regclass,
                                  'pluggy_sync.rejected_rows'::regclass) THEN a.attname <> 'body'
                   WHEN c.oid = 'pluggy.items'::regclass THEN a.attname <> 'payload'
                   WHEN c.relnamespace = 'pluggy'::regnamespace THEN a.attname IN
                       ('id', 'item_id', 'account_id', 'run_id', 'first_seen_at', 'changed_at',
                        'deleted_at', 'deletion_flagged_at', 'deletion_flag', 'deletion_refused_at',
                        'deletion_cause', 'missing_since')
              END
        GROUP BY c.oid
    LOOP
        EXECUTE format('GRANT SELECT (%s) ON %s TO pluggy_ops', found.readable, found.relation);
    END LOOP;
END $$;
-- Requeue.
GRANT UPDATE (state, reason, error_id, settled_at, ask_again_at, pending_since)
    ON pluggy_sync.webhook_events TO pluggy_ops;
GRANT INSERT (item_id, generation, lane, run_at), UPDATE (generation, lane, run_at)
    ON pluggy_sync.item_sync TO pluggy_ops;
-- The second for the lock that a decision takes; Postgres has no right to lock alone.
GRANT INSERT (item_id), UPDATE (item_id) ON pluggy_sync.item_leases TO pluggy_ops;
-- links accept and refuse.
GRANT UPDATE (state, checked_seq) ON pluggy_sync.account_links TO pluggy_ops;
GRANT DELETE ON pluggy_sync.row_links TO pluggy_ops;
-- items delete.
GRANT INSERT (item_id) ON pluggy_sync.erasures TO pluggy_ops;
-- Accept and refuse, each with its run.
GRANT UPDATE (deleted_at, changed_at, run_id, deletion_flagged_at, deletion_flag, deletion_refused_at,
              deletion_cause, missing_since)
    ON pluggy.transactions TO pluggy_ops;
GRANT UPDATE (deleted_at, changed_at, run_id, deletion_flagged_at, deletion_flag, deletion_refused_at)
    ON pluggy.accounts TO pluggy_ops;
-- What goes with an account: its rows, and what was still to be read of it.
DO $$
DECLARE
    owned regclass;
BEGIN
    FOR owned IN SELECT relation FROM pluggy_sync.mirrored_tables('account_id') LOOP
        EXECUTE format('GRANT UPDATE (deleted_at, changed_at, run_id) ON %s TO pluggy_ops', owned);
    END LOOP;
END $$;
GRANT DELETE ON pluggy_sync.account_walks, pluggy_sync.walk_pages, pluggy_sync.product_sync TO pluggy_ops;
GRANT INSERT, UPDATE ON pluggy_sync.runs TO pluggy_ops;
GRANT USAGE ON SEQUENCE pluggy_sync.run_seq, pluggy_sync.pending_seq TO pluggy_ops;
GRANT EXECUTE ON FUNCTION pluggy_sync.revive_events(text, bigint[], uuid[]),
    pluggy_sync.close_run(jsonb, bigint),
    pluggy_sync.register_item(uuid), pluggy_sync.mirrored_tables(text), pluggy_sync.count_rows_of(uuid),
    pluggy_sync.end_claim(uuid)
    TO pluggy_ops;

-- Every process refuses to start on a database that another baseline of migrations made.
GRANT SELECT (name, sha256) ON pluggy_sync.migrations TO pluggy_receiver, pluggy_worker, pluggy_ops;

GRANT USAGE ON SCHEMA pluggy_ops TO pluggy_dashboard;
GRANT SELECT ON ALL TABLES IN SCHEMA pluggy_ops TO pluggy_dashboard;
