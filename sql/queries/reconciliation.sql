-- name: take_periodic_task_lease
-- params: name, pause
-- returns: value?
-- Whether it is the caller's turn at something that one worker at a time does now and then;
-- nobody's while everything is halted.
UPDATE pluggy_sync.periodic_task_leases SET due_at = clock_timestamp() + $2::interval
WHERE name = $1 AND due_at <= now()
  AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
RETURNING true;

-- name: hasten_subscriptions
-- params: pause
-- returns: none
-- Deliveries were refused for their secret since the list of webhooks was last read: Pluggy may send
-- another one. pause: since that read, however many are refused.
UPDATE pluggy_sync.periodic_task_leases t SET due_at = now()
WHERE t.name = 'subscriptions' AND t.due_at > now() AND t.done_at < now() - $1::interval
  AND EXISTS (SELECT FROM pluggy_sync.delivery_counts d
              WHERE d.answer = 'unauthorized' AND d.minute >= date_trunc('minute', t.done_at));

-- name: end_periodic_task
-- params: name, failure_code?
-- returns: none
-- What came of a turn. failure_code null: done.
UPDATE pluggy_sync.periodic_task_leases
SET failure_code = $2, done_at = CASE WHEN $2::text IS NULL THEN clock_timestamp() ELSE done_at END
WHERE name = $1;

-- name: delete_reconciliations
-- params: item_id, token
-- returns: none
-- An item that is no more.
DELETE FROM pluggy_sync.item_reconciliations n USING pluggy_sync.item_leases l
WHERE n.item_id = $1 AND l.item_id = n.item_id AND l.token = $2;

-- name: plan_recent_read
-- params: item_id
-- returns: none
-- After a read of transactions: see pluggy_sync.plan_recent_read.
SELECT pluggy_sync.plan_recent_read($1);

-- name: mark_recent_complete
-- params: item_id, account_id, started_at?, read_seq?
-- returns: none
-- The last 14 days of an account have been read. What failed before this claim is over; a failure
-- of a step beside it, which is backed off, is not. read_seq: the place of the read's start.
UPDATE pluggy_sync.product_sync p
SET recent_at = $3, recent_seq = $4,
    attempts = CASE WHEN f.stands THEN p.attempts ELSE 0 END,
    failing_since = CASE WHEN f.stands THEN p.failing_since END,
    failed_at = CASE WHEN f.stands THEN p.failed_at END,
    next_try_at = CASE WHEN f.stands THEN p.next_try_at END,
    deferred_since = CASE WHEN f.stands THEN p.deferred_since END,
    failure_class = CASE WHEN f.stands THEN p.failure_class END,
    failure_code = CASE WHEN f.stands THEN p.failure_code END,
    error_id = CASE WHEN f.stands THEN p.error_id END,
    stale_reason = CASE WHEN f.stands THEN p.stale_reason END,
    dead_at = NULL, dead_seq = NULL
FROM (SELECT next_try_at > now() AS stands FROM pluggy_sync.product_sync
      WHERE item_id = $1 AND product = 'transactions' AND scope_id = $2) AS f
WHERE p.item_id = $1 AND p.product = 'transactions' AND p.scope_id = $2;

-- name: holds_rows_dated_since
-- params: item_id, account_id, day
-- returns: value
-- Whether an account has live rows that a read by date must list. ORDER BY, with an OFFSET that keeps
-- it: by the index of dates. Postgres expects one row of an item's account, and would read all of them.
SELECT EXISTS (
    SELECT FROM pluggy.transactions
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
      AND date >= $3::date::timestamp AT TIME ZONE 'UTC'
    ORDER BY date DESC OFFSET 0
) AS holds;

-- name: note_missed_webhook
-- params: item_id, source_updated_at, collected_at
-- returns: none
-- A collection that no webhook has announced yet. source_updated_at: its lastUpdatedAt; collected_at: the
-- same by our clock.
INSERT INTO pluggy_sync.missed_webhooks (item_id, source_updated_at, collected_at)
VALUES ($1, $2, $3)
ON CONFLICT (item_id, source_updated_at) DO NOTHING;

-- name: judge_missed_webhooks
-- returns: many JudgedWebhook
-- nullable: announced_at
-- Three hours later: has a webhook that ends a collection come after all?
UPDATE pluggy_sync.missed_webhooks m
SET judged_at = now(),
    announced_at = (SELECT min(e.accepted_at) FROM pluggy_sync.webhook_events e
               WHERE e.item_id = m.item_id
                 AND (e.state IN ('pending', 'walking') OR e.state IN ('applied', 'dead', 'ignored'))
                 AND e.event IN ('item/created', 'item/updated', 'item/error')
                 AND e.accepted_at >= m.collected_at - interval '5 minutes'
                 AND e.accepted_at <= m.found_at + interval '3 hours')
WHERE m.judged_at IS NULL AND m.found_at <= now() - interval '3 hours'
RETURNING m.item_id, m.source_updated_at, m.announced_at;

-- name: note_drift
-- params: run_id, product, scope_id, item_id, inserted, changed, deleted
-- returns: none
-- What a verify has changed in a page.
INSERT INTO pluggy_sync.drift AS d
    (run_id, product, scope_id, item_id, inserted, changed, deleted)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (run_id, product, scope_id) DO UPDATE SET
    inserted = d.inserted + excluded.inserted, changed = d.changed + excluded.changed,
    deleted = d.deleted + excluded.deleted;

-- name: load_due_webhook_checks
-- params: limit
-- returns: many DueReconciliation
SELECT item_id, webhook_check_at AS due_at, true AS readable FROM pluggy_sync.item_reconciliations
WHERE webhook_check_at <= now() ORDER BY webhook_check_at LIMIT $1;

-- name: end_webhook_checks
-- params: item_ids, due_ats
-- returns: none
-- The alarm is an event by now; the look itself sets the next one. due_ats, here and below: as they
-- were loaded, for what became due since is another order.
UPDATE pluggy_sync.item_reconciliations n SET webhook_check_at = NULL
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE n.item_id = d.item_id AND n.webhook_check_at <= d.due_at;

-- name: load_due_recent_reads
-- params: limit
-- returns: many DueReconciliation
-- readable: without a consent every list is empty, which proves nothing.
WITH due AS (
    SELECT item_id, recent_read_at AS due_at FROM pluggy_sync.item_reconciliations
    WHERE recent_read_at <= now() ORDER BY 2 LIMIT $1
)
SELECT d.item_id, d.due_at,
       i.id IS NOT NULL AND i.execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED'
           AND coalesce(i.consent_expires_at > now(), true) AS readable
FROM due d
LEFT JOIN pluggy.items i ON i.id = d.item_id AND i.deleted_at IS NULL
ORDER BY d.due_at;

-- name: end_recent_reads
-- params: item_ids, due_ats
-- returns: none
UPDATE pluggy_sync.item_reconciliations n SET recent_read_at = NULL
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE n.item_id = d.item_id AND n.recent_read_at <= d.due_at;

-- name: load_due_verifies
-- params: limit
-- returns: many DueReconciliation
-- readable: as above.
WITH due AS (
    SELECT item_id, verify_at AS due_at FROM pluggy_sync.item_reconciliations
    WHERE verify_at <= now() ORDER BY 2 LIMIT $1
)
SELECT d.item_id, d.due_at,
       i.id IS NOT NULL AND i.execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED'
           AND coalesce(i.consent_expires_at > now(), true) AS readable
FROM due d
LEFT JOIN pluggy.items i ON i.id = d.item_id AND i.deleted_at IS NULL
ORDER BY d.due_at;

-- name: end_verifies
-- params: item_ids, due_ats
-- returns: none
-- On to the next round, at the item's own place in it. Six days: a verify that has to wait for
-- better lanes still ends within the week.
UPDATE pluggy_sync.item_reconciliations n
SET verify_at = verify_at + interval '6 days'
    * (1 + floor(extract(epoch FROM now() - verify_at) / (6 * 86400)))
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE n.item_id = d.item_id AND n.verify_at <= d.due_at;

-- name: load_due_deletions
-- params: limit
-- returns: many DueReconciliation
-- readable: as above, and some row that is pending for want of a witness has one by now.
WITH due AS (
    SELECT item_id, deletions_at AS due_at FROM pluggy_sync.item_reconciliations
    WHERE deletions_at <= now() ORDER BY 2 LIMIT $1
)
SELECT d.item_id, d.due_at,
       i.id IS NOT NULL AND i.execution_status IS DISTINCT FROM 'USER_AUTHORIZATION_REVOKED'
           AND coalesce(i.consent_expires_at > now(), true)
           AND EXISTS (
               SELECT FROM pluggy.transactions f
               JOIN pluggy.transactions w ON w.item_id = f.item_id AND w.account_id = f.account_id
               WHERE f.item_id = d.item_id AND f.deletion_flagged_at IS NOT NULL
                 AND f.deletion_flag = 'no_witness' AND f.deleted_at IS NULL
                 AND w.deleted_at IS NULL AND w.deletion_flagged_at IS NULL
                 AND w.deletion_refused_at IS NULL) AS readable
FROM due d
LEFT JOIN pluggy.items i ON i.id = d.item_id AND i.deleted_at IS NULL
ORDER BY d.due_at;

-- name: end_deletions
-- params: item_ids, due_ats
-- returns: none
-- Once a day as long as such rows are pending.
WITH candidates AS (
    SELECT DISTINCT item_id FROM pluggy.transactions
    WHERE item_id = ANY($1::uuid[]) AND deletion_flagged_at IS NOT NULL
      AND deletion_flag = 'no_witness' AND deleted_at IS NULL
)
UPDATE pluggy_sync.item_reconciliations n
SET deletions_at = CASE WHEN n.item_id IN (SELECT item_id FROM candidates)
                        THEN now() + interval '1 day' END
FROM unnest($1::uuid[], $2::timestamptz[]) AS d(item_id, due_at)
WHERE n.item_id = d.item_id AND n.deletions_at <= d.due_at;

-- name: plan_deletions
-- params: item_id, due_at
-- returns: none
-- Rows became pending for want of a witness.
UPDATE pluggy_sync.item_reconciliations SET deletions_at = $2
WHERE item_id = $1 AND (deletions_at IS NULL OR deletions_at > $2);

-- name: hurry_deletions
-- params: item_id, account_id, now
-- returns: none
-- A page has brought new rows: see pluggy_sync.hurry_deletions.
SELECT pluggy_sync.hurry_deletions($1, $2, $3);

-- name: load_subscriptions
-- returns: many SubscriptionRow
-- nullable: hook_id
SELECT hook_id, event, state, since FROM pluggy_sync.subscriptions;

-- name: delete_subscriptions
-- returns: none
DELETE FROM pluggy_sync.subscriptions;

-- name: store_subscriptions
-- params: hook_ids[?], events, hosts[?], states, disabled_ats[?], sinces[?]
-- returns: none
-- A null in sinces: since now.
INSERT INTO pluggy_sync.subscriptions (hook_id, event, host, state, disabled_at, since)
SELECT hook_id, event, host, state, disabled_at, coalesce(since, clock_timestamp())
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS s(hook_id, event, host, state, disabled_at, since);
