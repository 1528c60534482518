-- The kinds of the worklist, and what is about the service as a whole.
CREATE VIEW pluggy_sync.found AS
WITH found AS (
    SELECT 100 AS weight, 'red' AS severity, 'halted' AS kind, 'us' AS blocked_on,
           'Halted: ' || h.advice AS what, h.halted_at AS since, 1::bigint AS how_many,
           NULL::text AS command
    FROM pluggy_sync.halts h
    WHERE h.halted_at IS NOT NULL AND h.failure_code <> 'pluggy_down'
    UNION ALL
    SELECT 98, 'red', 'no_worker', 'us',
           'No worker is alive: start one, webhooks are kept until then.', max(seen_at), 1, NULL
    FROM pluggy_sync.workers
    HAVING count(*) FILTER (WHERE seen_at > now() - interval '30 seconds') = 0
    UNION ALL
    SELECT 90, 'yellow', 'pluggy_down', 'pluggy',
           'Pluggy does not answer: it is probed every few seconds, and work goes on by itself when it'
           || ' answers. If https://status.pluggy.ai shows no trouble, see that PLUGGY_BASE_URL can be'
           || ' reached from the workers.', h.halted_at, 1, NULL
    FROM pluggy_sync.halts h
    WHERE h.halted_at IS NOT NULL AND h.failure_code = 'pluggy_down'
    UNION ALL
    SELECT 92, 'yellow', 'redis_outage', 'us',
           'Redis does not serve ' || pluggy_sync.counted(count(*), 'worker', 'workers') || ' ('
           || string_agg(DISTINCT redis_outage, ', ') || '): what is due is taken from Postgres, by each at a'
           || ' tenth of Pluggy''s limit.',
           min(redis_outage_since), count(*), NULL
    FROM pluggy_sync.workers
    WHERE redis_outage IS NOT NULL AND seen_at > now() - interval '30 seconds'
    HAVING count(*) > 0
    UNION ALL
    -- A Redis that evicts keys loses queued work; the other settings only matter while Postgres is away.
    SELECT CASE WHEN 'may_evict' = ANY (unsafe) THEN 83 ELSE 10 END,
           CASE WHEN 'may_evict' = ANY (unsafe) THEN 'yellow' ELSE 'info' END, 'redis_unsafe', 'us',
           'Redis is not set up to keep events (' || array_to_string(unsafe, ', ') || '): it needs'
           || ' maxmemory-policy noeviction, appendonly yes and appendfsync always.',
           checked_at, 1, NULL
    FROM pluggy_sync.redis_settings
    WHERE unsafe <> '{}'
    UNION ALL
    SELECT 82, 'yellow', 'product_parked', 'pluggy',
           pluggy_sync.counted(count(*), 'product is', 'products are')
           || ' refused by Pluggy and left out: '
           || string_agg(product || ' (' || endpoint || ', ' || failure_code
                         || coalesce(', error_id ' || error_id, '') || ')', ', ' ORDER BY parked_at)
           || '. Pluggy is asked again once an hour; its support knows the error_id.',
           min(parked_at), count(*), NULL
    FROM pluggy_sync.parked_products
    HAVING count(*) > 0
    UNION ALL
    -- Events whose steps a limit defers again and again. No other view shows it: a step that fails is stale,
    -- and a collection under way defers the event, not a step.
    SELECT 88, 'yellow', 'events_late', 'us',
           'Webhooks wait for over five minutes: failure_code in runs says why; of 429 and rate_budget,'
           || ' Pluggy''s rate limit is used up, which more workers do not mend.',
           min(w.pending_since), count(*), NULL
    FROM pluggy_sync.webhook_events w
    WHERE w.state = 'pending' AND w.lane = 0 AND w.ask_again_at IS NULL
      AND w.pending_since < now() - interval '5 minutes'
      -- OFFSET 0: event by event, for a join may read the steps of all items.
      AND EXISTS (SELECT FROM pluggy_sync.product_sync p
                  WHERE p.item_id = w.item_id AND p.next_try_at IS NOT NULL
                    AND p.attempts = 0 AND p.deferred_since IS NULL OFFSET 0)
    HAVING count(*) > 0
    UNION ALL
    SELECT 86, 'yellow', 'work_waits', 'us',
           'Work waits for over a minute: look at backlog and add workers.',
           min(run_at), count(*), NULL
    FROM pluggy_sync.item_sync
    WHERE run_at <= now()
    HAVING min(run_at) < now() - interval '1 minute'
    UNION ALL
    -- In a row: since the last minute in which one was taken.
    SELECT 84, 'yellow', 'deliveries_refused', 'us',
           sum(d.deliveries) || ' deliveries in a row were refused for their secret or their address (401):'
           || ' if they are Pluggy''s, its webhooks carry another secret than WEBHOOK_SECRET.',
           min(d.minute), sum(d.deliveries)::bigint, 'pluggy-sync webhooks register'
    FROM pluggy_sync.delivery_counts d
    WHERE d.answer = 'unauthorized' AND d.minute > now() - interval '1 day'
      AND d.minute >= coalesce((SELECT max(minute) FROM pluggy_sync.delivery_counts
                                WHERE answer IN ('accepted', 'duplicate', 'kept')
                                  AND minute > now() - interval '1 day'), '-infinity')
    HAVING sum(d.deliveries) >= 20
    UNION ALL
    SELECT 45, 'yellow', 'reference_data_failing', 'pluggy',
           'The list of ' || string_agg(product, ' and of ') || ' cannot be read ('
           || string_agg(DISTINCT failure_code, ', ') || '): it is tried again by itself.',
           min(coalesce(failing_since, dead_at)), count(*), NULL
    FROM pluggy_sync.reference_data_sync
    WHERE dead_at IS NOT NULL OR failing_since < now() - interval '1 hour'
    HAVING count(*) > 0
    UNION ALL
    SELECT 43, 'yellow', 'reference_data_incomplete', 'us',
           'The list of ' || string_agg(product, ' and of ') || ' does not say whether it goes on: its rows'
           || ' are stored, and none is taken for deleted. A newer release may read it.',
           min(complete_read_at), count(*), NULL
    FROM pluggy_sync.reference_data_sync
    WHERE incomplete_reason IS NOT NULL
    HAVING count(*) > 0
    UNION ALL
    SELECT w.weight, w.severity, w.kind, w.blocked_on,
           CASE w.kind
               WHEN 'subscription' THEN CASE w.n WHEN 1 THEN w.one
                    ELSE w.n || ' webhooks at Pluggy are missing or wrong: subscriptions says which.' END
               WHEN 'subscriptions_unchecked' THEN w.one
               WHEN 'missed_webhooks' THEN pluggy_sync.counted(w.things, 'collection', 'collections')
                    || ' of the last week came without a webhook: look at subscriptions, and whether'
                    || ' the receiver was away.'
               WHEN 'item_not_found' THEN 'Pluggy does not know '
                    || pluggy_sync.counted(w.n, 'item', 'items') || ' and has sent no'
                    || ' item/deleted: items deleted settles what is gone.'
               WHEN 'item_not_registered' THEN 'Pluggy lists '
                    || pluggy_sync.counted(w.n, 'item that is', 'items that are') || ' not held: items'
                    || ' import --from-pluggy registers what it lists, ADOPT_UNKNOWN_ITEMS=1 does so daily.'
               WHEN 'dead_letters' THEN pluggy_sync.counted(w.things, 'event was', 'events were')
                    || ' given up on: requeue what is fixed.'
               WHEN 'refused_by_pluggy' THEN pluggy_sync.counted(w.things, 'event was', 'events were')
                    || ' given up on, for Pluggy does not know or refuses what is named: its support knows'
                    || ' the error_id.'
               WHEN 'flagged_deletions' THEN pluggy_sync.counted(w.things, 'row is', 'rows are')
                    || ' gone at Pluggy but not proven deleted: accept or refuse the deletion.'
               WHEN 'events_kept' THEN pluggy_sync.counted(
                    w.things, 'delivery of the last week was kept, for it',
                    'deliveries of the last week were kept, for they')
                    || ' could not be read: a newer release may do so.'
               WHEN 'rows_rejected' THEN pluggy_sync.counted(w.things, 'product holds', 'products hold')
                    || ' rows that cannot be read: rejected_rows says which, a newer release may read them.'
               WHEN 'list_length_unknown' THEN 'Pluggy''s lists of '
                    || pluggy_sync.counted(w.things, 'product', 'products') || ' do not say whether'
                    || ' they go on: their rows are stored, and none is taken for deleted.'
               WHEN 'verify_late' THEN pluggy_sync.counted(w.n, 'item waits for its', 'items wait for their')
                    || ' verify for over two days: add workers, or see in backlog what goes before it.'
               WHEN 'never_due' THEN pluggy_sync.counted(w.n, 'item has', 'items have')
                    || ' work left that no worker will take up: verify reads them, and please report it.'
               WHEN 'purge_late' THEN pluggy_sync.counted(
                    w.n, 'deleted item waits for its', 'deleted items wait for their')
                    || ' purge for over a day: Pluggy has to answer 404 once more.'
               WHEN 'reads_failing' THEN 'Reads of ' || pluggy_sync.counted(w.things, 'product', 'products')
                    || ' fail and are tried again: errors_by_connector says of what.'
               WHEN 'collection_overdue' THEN pluggy_sync.counted(w.n, 'item', 'items')
                    || ' had no collection for over a day after the time that Pluggy promised:'
                    || ' ask Pluggy''s support.'
               WHEN 'collection_stuck' THEN pluggy_sync.counted(w.n, 'item is', 'items are')
                    || ' being collected for over a day: ask Pluggy''s support.'
               WHEN 'bank_error' THEN 'Banks do not give '
                    || pluggy_sync.counted(w.things, 'product', 'products') || ': errors_by_connector'
                    || ' says which banks; Pluggy tries again by itself.'
               WHEN 'monthly_quota' THEN 'The month''s Open Finance quota is used up for '
                    || pluggy_sync.counted(w.things, 'product: it is', 'products: they are')
                    || ' collected again from the first of the next month.'
               WHEN 'authorization_pending' THEN pluggy_sync.counted(w.n, 'item waits', 'items wait')
                    || ' for an approval at the bank, such as that of a second holder: what waits is missing.'
               WHEN 'bank_warning' THEN 'Banks have not given all of '
                    || pluggy_sync.counted(w.things, 'product', 'products') || '.'
               WHEN 'account_link' THEN pluggy_sync.counted(w.n, 'card', 'cards')
                    || ' may go on under a new connection: accept or refuse each pair.'
               WHEN 'connector_withdrawn' THEN pluggy_sync.counted(
                    w.n, 'item is on a connector', 'items are on connectors')
                    || ' that Pluggy no longer offers; it deletes the items: have the'
                    || ' person connect again before.'
               WHEN 'reconnect' THEN pluggy_sync.counted(w.n, 'item needs its', 'items need their')
                    || ' person to connect again.'
               WHEN 'consent_expiring' THEN pluggy_sync.counted(w.n, 'consent ends', 'consents end')
                    || ' within 14 days, the first at '
                    || to_char(w.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
                    || ' UTC: have each renewed.'
               WHEN 'waiting_for_user' THEN pluggy_sync.counted(
                    w.n, 'login waits for its', 'logins wait for their')
                    || ' person for over an hour.'
               WHEN 'no_auto_sync' THEN pluggy_sync.counted(w.n, 'item is', 'items are')
                    || ' no longer updated by Pluggy by itself: ask for an update, or have the person connect'
                    || ' again.'
           END, w.since,
           CASE WHEN w.kind IN ('missed_webhooks', 'dead_letters', 'refused_by_pluggy',
                                'flagged_deletions', 'events_kept', 'stale', 'incomplete') THEN w.things
                ELSE w.n END,
           CASE w.kind
               WHEN 'subscription' THEN 'pluggy-sync webhooks register'
               WHEN 'subscriptions_unchecked' THEN 'pluggy-sync webhooks list'
               WHEN 'missed_webhooks' THEN 'pluggy-sync webhooks list'
               WHEN 'dead_letters' THEN 'pluggy-sync dead-letters list'
               WHEN 'refused_by_pluggy' THEN 'pluggy-sync dead-letters list'
               WHEN 'flagged_deletions' THEN 'pluggy-sync deletions list'
               WHEN 'account_link' THEN 'pluggy-sync links list'
               ELSE 'pluggy-sync worklist --kind ' || w.kind END
    FROM (SELECT kind, weight, severity, blocked_on, count(*) AS n, sum(how_many)::bigint AS things,
                 min(since) AS since, min(due_at) AS due_at, min(what) AS one
          FROM pluggy_sync.work GROUP BY kind, weight, severity, blocked_on) AS w
)
SELECT severity, kind, blocked_on, what, since, how_many, command, weight
FROM found;

COMMENT ON VIEW pluggy_sync.found IS
    'The rows of pluggy_ops.findings, and of severity count how many rows of freshness are stale'
    ' or incomplete';
COMMENT ON COLUMN pluggy_sync.found.severity IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.kind IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.blocked_on IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.what IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.since IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.how_many IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.command IS 'As of pluggy_ops.findings';
COMMENT ON COLUMN pluggy_sync.found.weight IS 'As of pluggy_ops.findings';
