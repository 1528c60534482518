-- What worklist, findings and overview are made of, so that each of them judges what is not fresh once.
-- The weight, severity and responsible party of a kind are defined here alone.
CREATE VIEW pluggy_sync.work AS
WITH stale AS MATERIALIZED (
    SELECT item_id, scope_id, product, state, reason, blocked_on, stale_since, collected_at,
           array_to_string(warning_codes, ', ') AS codes,
           connector_id IS NOT DISTINCT FROM 200 AS of_meu_pluggy,
           CASE WHEN reason IN ('login_error', 'consent_revoked', 'consent_expired') THEN 'reconnect'
                WHEN reason IN ('waiting_user_input', 'waiting_user_action') THEN 'waiting_for_user'
                WHEN reason = 'no_auto_sync' THEN 'no_auto_sync'
                -- Listed by item below, and by product in findings.
                WHEN reason IN ('collection_overdue', 'product_parked') THEN NULL
                WHEN reason IN ('updating', 'merging') THEN 'collection_stuck'
                WHEN reason = 'rows_rejected' THEN 'rows_rejected'
                WHEN reason = 'list_length_unknown' THEN 'list_length_unknown'
                WHEN reason IN ('monthly_quota', 'authorization_pending') THEN reason
                WHEN reason IN ('collected_with_warning', 'general_warning') THEN 'bank_warning'
                WHEN blocked_on = 'bank' THEN 'bank_error'
                ELSE 'reads_failing' END AS kind
    FROM pluggy_ops.freshness
    -- Stale or incomplete, said so that Postgres expects it of most of these rows: where it expects one, it
    -- reads all open events for each.
    WHERE state NOT IN ('deleted', 'unread', 'walking', 'fresh')
      AND item_id = ANY (ARRAY(SELECT n.item_id FROM pluggy_sync.items_not_fresh n))
), dead AS MATERIALIZED (
    -- BETWEEN: by the index product_sync_not_well, as in items_not_fresh.
    SELECT item_id, product, scope_id, dead_at, failure_code FROM pluggy_sync.product_sync
    WHERE dead_at IS NOT NULL
      AND item_id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'
), work AS (
    SELECT 'item_not_found' AS kind, p.item_id, NULL::uuid AS account_id, p.dead_at AS since,
           NULL::timestamptz AS due_at, 1::bigint AS how_many,
           'Pluggy does not know this item and has sent no item/deleted: if it was deleted, or never'
           || ' existed, deliver {"event": "item/deleted", "itemId": "' || p.item_id
           || '"} to the receiver yourself, or run the command.' AS what,
           'pluggy-sync items deleted ' || p.item_id AS command
    FROM dead p
    WHERE p.product = 'items' AND p.failure_code LIKE '404:%'
    UNION ALL
    -- Webhooks of an item that was connected just now are on their way.
    SELECT 'item_not_registered', u.item_id, NULL, u.found_at, NULL, 1,
           'Pluggy lists this item, and it is not held: its item/created was lost, or it was connected before'
           || ' the webhook was registered. Run the command, or set ADOPT_UNKNOWN_ITEMS=1.',
           'pluggy-sync items register ' || u.item_id
    FROM pluggy_sync.unknown_items u
    WHERE u.found_at < now() - interval '1 hour'
      AND NOT EXISTS (SELECT FROM pluggy.items i WHERE i.id = u.item_id AND i.deleted_at IS NULL)
    UNION ALL
    SELECT 'dead_letters', item_id, NULL, min(settled_at), NULL, count(*),
           pluggy_sync.counted(count(*), 'event was', 'events were')
           || ' given up on: requeue when the cause is fixed.',
           'pluggy-sync dead-letters ' || CASE WHEN item_id IS NULL THEN 'list'
                                               ELSE 'requeue --item ' || item_id END
    FROM pluggy_sync.webhook_events
    WHERE state = 'dead' AND reason !~ '^4\d\d:' AND reason <> 'account_not_of_item'
    GROUP BY item_id
    UNION ALL
    -- Pluggy would refuse them again. Those of an unknown item are covered by item_not_found.
    SELECT 'refused_by_pluggy', item_id, NULL, min(settled_at), NULL, count(*),
           pluggy_sync.counted(count(*), 'event was', 'events were')
           || ' given up on, for Pluggy does not know or refuses what is named ('
           || string_agg(DISTINCT reason, ', ') || '): its support knows the error_id.',
           'pluggy-sync dead-letters list' || coalesce(' --item ' || item_id, '')
    FROM pluggy_sync.webhook_events
    WHERE state = 'dead' AND (reason ~ '^4\d\d:' OR reason = 'account_not_of_item')
      AND reason <> '404:ITEM_NOT_FOUND'
    GROUP BY item_id
    UNION ALL
    SELECT 'flagged_deletions', item_id, account_id, min(flagged_at), NULL, count(*),
           pluggy_sync.counted(count(*), 'row is', 'rows are')
           || ' gone at Pluggy but not proven deleted: accept or refuse the deletion.',
           'pluggy-sync deletions list --item ' || item_id
    FROM pluggy_ops.flagged_deletions
    GROUP BY item_id, account_id
    UNION ALL
    SELECT 'verify_late', item_id, NULL, min(accepted_at), NULL, count(*),
           'A verify waits for over two days: add workers, or see in backlog what goes before it.',
           'pluggy-sync items show ' || item_id
    FROM pluggy_sync.webhook_events
    WHERE state IN ('pending', 'walking') AND event = 'sync/verify'
      -- A resync that a person has ordered may take as long as it takes.
      AND event_id NOT LIKE 'resync:%' AND event_id NOT LIKE 'verify:%'
      AND accepted_at < now() - interval '2 days'
    GROUP BY item_id
    UNION ALL
    -- None, unless a statement by hand or a fault of ours has left it. What waits for a parked product is due
    -- once that is answered.
    SELECT 'never_due', item_id, NULL, min(since), NULL, count(*),
           'No worker will take up what is left to do: run the command, which has all of the item read, and'
           || ' report it.', 'pluggy-sync verify ' || item_id
    FROM (SELECT item_id, pending_since AS since FROM pluggy_sync.webhook_events
          WHERE state IN ('pending', 'walking') AND pending_since < now() - interval '1 minute'
          UNION ALL
          SELECT w.item_id, w.asked_at FROM pluggy_sync.account_walks w
          WHERE w.asked_at < now() - interval '1 minute'
            AND NOT EXISTS (SELECT FROM pluggy_sync.product_sync p
                            WHERE p.item_id = w.item_id AND p.scope_id = w.account_id
                              AND p.product = 'transactions' AND p.dead_at IS NOT NULL OFFSET 0)) AS open
    -- OFFSET 0: one by one, for a join may read all items.
    WHERE EXISTS (SELECT FROM pluggy_sync.item_sync s JOIN pluggy_sync.item_leases l USING (item_id)
                  WHERE s.item_id = open.item_id AND s.run_at IS NULL AND l.until <= now() OFFSET 0)
      AND NOT EXISTS (SELECT FROM pluggy_sync.product_sync p
                      WHERE p.item_id = open.item_id AND p.parked_at IS NOT NULL OFFSET 0)
    GROUP BY item_id
    UNION ALL
    SELECT 'missed_webhooks', item_id, NULL, min(found_at), NULL, count(*),
           pluggy_sync.counted(count(*), 'collection', 'collections')
           || ' of the last week came without a webhook: look at subscriptions, and whether the'
           || ' receiver was away.',
           'pluggy-sync webhooks list'
    FROM pluggy_ops.missed_webhooks
    WHERE state = 'proven' AND found_at > now() - interval '7 days'
    GROUP BY item_id
    UNION ALL
    SELECT CASE state WHEN 'unchecked' THEN 'subscriptions_unchecked' ELSE 'subscription' END,
           NULL, NULL, since, NULL, 1,
           event || ' at ' || coalesce(host, 'no host') || ': ' || advice,
           'pluggy-sync webhooks ' || CASE WHEN state IN ('missing', 'disabled', 'wrong_secret')
                                           THEN 'register' ELSE 'list' END
    FROM pluggy_ops.subscriptions
    WHERE state NOT IN ('ok', 'elsewhere')
    UNION ALL
    SELECT 'events_kept', item_id, NULL, min(accepted_at), NULL, count(*),
           pluggy_sync.counted(
               count(*), 'delivery of ' || event || ' was', 'deliveries of ' || event || ' were')
           || ' kept and not obeyed (' || reason
           || '): the next verify finds what was told; a newer release may know this event.',
           'pluggy-sync worklist --kind events_kept'
    FROM pluggy_sync.webhook_events
    WHERE state = 'ignored'
      AND reason IN ('unknown_event', 'unreadable_item_id', 'unreadable_connector_id')
      AND accepted_at > now() - interval '7 days'
    GROUP BY item_id, event, reason
    UNION ALL
    SELECT 'collection_overdue', id, NULL, next_auto_sync_at, NULL, 1,
           'Pluggy has promised a collection over a day ago and not made it: '
           || CASE WHEN connector_id = 200 THEN 'look at the connection in meu.pluggy.ai.'
                   ELSE 'ask Pluggy''s support.' END,
           'pluggy-sync items ' || CASE WHEN connector_id = 200 THEN 'show ' ELSE 'update ' END || id
    FROM pluggy.items
    WHERE deleted_at IS NULL AND next_auto_sync_at < now() - interval '1 day'
    UNION ALL
    SELECT 'consent_expiring', item_id, NULL, min(ends_at) - interval '14 days', min(ends_at), 1,
           'The consent ends at ' || to_char(min(ends_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
           || ' UTC: have the person renew it before.',
           'pluggy-sync items show ' || item_id
    FROM (
        SELECT id AS item_id, consent_expires_at AS ends_at FROM pluggy.items
        WHERE consent_expires_at > now() AND consent_expires_at < now() + interval '14 days'
          AND deleted_at IS NULL AND execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED'
        UNION ALL
        SELECT c.item_id, c.expires_at
        FROM pluggy.consents c
        JOIN pluggy.items i ON i.id = c.item_id
        WHERE c.deleted_at IS NULL AND c.revoked_at IS NULL
          AND c.expires_at > now() AND c.expires_at < now() + interval '14 days'
          AND i.deleted_at IS NULL AND coalesce(i.consent_expires_at > now(), true)
          AND i.execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED') AS ending
    GROUP BY item_id
    UNION ALL
    SELECT 'connector_withdrawn', i.id, NULL, w.unlisted_at, NULL, 1,
           'Pluggy no longer offers this connector and deletes its items; a new connection brings at most 12'
           || ' months. Ask the person: "O acesso a este banco vai ser encerrado. Conecte-o de novo pelo Open'
           || ' Finance, para que nenhum lançamento se perca."',
           'pluggy-sync items show ' || i.id
    FROM pluggy.items i
    JOIN (SELECT connector_id, unlisted_at FROM pluggy_sync.withdrawn_connectors) AS w
        ON w.connector_id = i.connector_id
    WHERE i.deleted_at IS NULL
    UNION ALL
    SELECT 'account_link', item_id, account_id, linked_at, NULL, 1,
           'This card has four digits and a holder in common with one of a new connection, and '
           || matching_rows || ' of ' || compared_rows || ' rows: accept the pair if it is the same card, so'
           || ' that nothing counts twice; else refuse it.',
           'pluggy-sync links list --item ' || item_id
    FROM pluggy_sync.account_links
    WHERE state = 'proposed'
    UNION ALL
    SELECT 'purge_late', coalesce(p.item_id, e.item_id), NULL, least(p.begun_at, e.ordered_at), NULL, 1,
           'What is held of a deleted item is to be purged, and Pluggy has not said again that it is gone'
           || coalesce(' (' || p.failure_code || ')', '') || '.',
           'pluggy-sync items show ' || coalesce(p.item_id, e.item_id)
    FROM pluggy_sync.purges p
    FULL JOIN pluggy_sync.erasures e ON e.item_id = p.item_id
    WHERE least(p.begun_at, e.ordered_at) < now() - interval '1 day'
    UNION ALL
    SELECT kind, item_id, NULL, min(coalesce(stale_since, collected_at)), NULL, count(*),
           CASE kind
               WHEN 'reconnect' THEN 'The person has to connect again'
                    || CASE WHEN of_meu_pluggy THEN ' in meu.pluggy.ai: ' ELSE ': ' END
                    || min(reason) || '.'
               WHEN 'waiting_for_user' THEN 'The login waits for the person: ' || min(reason) || '.'
               WHEN 'no_auto_sync' THEN CASE WHEN of_meu_pluggy
                    THEN 'MeuPluggy has brought nothing for three days: the person looks at the connection'
                         || ' in meu.pluggy.ai; the item itself cannot be updated.'
                    ELSE 'Pluggy no longer updates this item by itself: update it, or have the person'
                         || ' connect again.' END
               WHEN 'collection_stuck' THEN 'Pluggy is collecting for over a day and has not ended: ask'
                    || ' Pluggy''s support.'
               WHEN 'rows_rejected' THEN pluggy_sync.counted(count(*), 'product holds', 'products hold')
                    || ' rows that cannot be read and are set aside in rejected_rows:'
                    || ' a newer release may read them.'
               WHEN 'list_length_unknown' THEN 'Pluggy''s lists of '
                    || pluggy_sync.counted(count(*), 'product', 'products')
                    || ' do not say whether they go on: their rows are stored, and none is taken for'
                    || ' deleted. A newer release may read them.'
               WHEN 'monthly_quota' THEN 'The month''s Open Finance quota of this person at this bank is'
                    || ' used up for ' || pluggy_sync.counted(count(*), 'product', 'products')
                    || ' (' || string_agg(DISTINCT codes, ', ') || '): collections go on from the'
                    || ' first of the next month. Two items of one person at one bank share it, see'
                    || ' duplicate_connections.'
               WHEN 'authorization_pending' THEN 'Accounts or contracts of this connection still wait for an'
                    || ' approval in the bank''s app, such as that of a second holder; until then they are'
                    || ' missing. Tell the person: "Parte das contas desta conexão ainda aguarda'
                    || ' autorização no aplicativo do banco: peça a aprovação de quem assina junto com'
                    || ' você. Depois disso os dados aparecem sozinhos."'
               WHEN 'bank_warning' THEN CASE
                    WHEN bool_and(reason = 'general_warning')
                        THEN 'Pluggy has read '
                             || pluggy_sync.counted(count(*), 'product', 'products')
                             || ' with its general warning (001):'
                             || ' something of them may be missing until the next collection.'
                    ELSE 'The bank has not given all of '
                         || pluggy_sync.counted(count(*), 'product', 'products') || ' (warnings '
                         || string_agg(DISTINCT codes, ', ') || ').' END
               WHEN 'bank_error' THEN 'The bank does not give '
                    || pluggy_sync.counted(count(*), 'product', 'products') || ' ('
                    || string_agg(DISTINCT reason, ', ') || '): Pluggy tries again by itself.'
               ELSE 'Reads of ' || pluggy_sync.counted(count(*), 'product', 'products') || ' fail ('
                    || coalesce(string_agg(DISTINCT reason, ', '), '-') || '): they are tried again.'
           END,
           -- Of MeuPluggy only the person can do it, in its own application.
           CASE WHEN kind = 'reconnect' AND NOT of_meu_pluggy THEN 'pluggy-sync connect-token --item '
                WHEN kind = 'no_auto_sync' AND NOT of_meu_pluggy THEN 'pluggy-sync items update '
                ELSE 'pluggy-sync items show ' END || item_id
    FROM stale
    -- A step that is dead has its dead letter.
    WHERE kind IS NOT NULL
      AND NOT (kind = 'reads_failing'
               AND (item_id, product, coalesce(scope_id, '00000000-0000-0000-0000-000000000000')) IN (
                   SELECT p.item_id, p.product, p.scope_id
                   FROM dead p
                   JOIN pluggy_sync.webhook_events e ON e.item_id = p.item_id AND e.reason = p.failure_code
                   WHERE e.state = 'dead'))
    GROUP BY kind, item_id, of_meu_pluggy
    UNION ALL
    -- For the overview: rows of freshness, whatever kind they are of.
    SELECT state, NULL, NULL, NULL, NULL, count(*), NULL, NULL FROM stale GROUP BY state
)
SELECT w.kind, k.severity, k.blocked_on, w.item_id, w.account_id, w.since, w.due_at, w.how_many, w.what,
       w.command, k.weight
FROM work w
JOIN (VALUES
    -- Weight: causes of missing data first, then work that is not done, then what others have to do.
    (70, 'subscription', 'yellow', 'us'),
    (68, 'missed_webhooks', 'yellow', 'us'),
    (60, 'item_not_found', 'yellow', 'us'),
    (58, 'dead_letters', 'yellow', 'us'),
    (56, 'refused_by_pluggy', 'yellow', 'us'),
    (54, 'flagged_deletions', 'yellow', 'us'),
    (52, 'events_kept', 'yellow', 'us'),
    (50, 'rows_rejected', 'yellow', 'us'),
    (49, 'list_length_unknown', 'yellow', 'us'),
    (48, 'verify_late', 'yellow', 'us'),
    (47, 'never_due', 'yellow', 'us'),
    (46, 'purge_late', 'yellow', 'pluggy'),
    (44, 'reads_failing', 'yellow', 'pluggy'),
    (42, 'collection_overdue', 'yellow', 'pluggy'),
    (40, 'collection_stuck', 'yellow', 'pluggy'),
    (38, 'subscriptions_unchecked', 'yellow', 'pluggy'),
    (36, 'bank_error', 'yellow', 'bank'),
    (35, 'monthly_quota', 'yellow', 'bank'),
    (34, 'bank_warning', 'yellow', 'bank'),
    (26, 'item_not_registered', 'info', 'us'),
    (24, 'account_link', 'info', 'us'),
    (22, 'connector_withdrawn', 'info', 'user'),
    (20, 'reconnect', 'info', 'user'),
    (18, 'consent_expiring', 'info', 'user'),
    (16, 'waiting_for_user', 'info', 'user'),
    (15, 'authorization_pending', 'info', 'user'),
    (14, 'no_auto_sync', 'info', 'user'),
    (0, 'stale', 'count', NULL),
    (0, 'incomplete', 'count', NULL)
) AS k(weight, kind, severity, blocked_on) ON k.kind = w.kind;

COMMENT ON VIEW pluggy_sync.work IS
    'The rows of pluggy_ops.worklist, and of severity count how many rows of freshness are stale'
    ' or incomplete';
COMMENT ON COLUMN pluggy_sync.work.kind IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.severity IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.blocked_on IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.item_id IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.account_id IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.since IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.due_at IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.how_many IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.what IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.command IS 'As of pluggy_ops.worklist';
COMMENT ON COLUMN pluggy_sync.work.weight IS 'As of pluggy_ops.worklist';
