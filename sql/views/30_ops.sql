-- What operators look at. No personal data, no amounts, no descriptions.

-- One row per item and product (and account): is it fresh, since when not, why, and who has to act.
-- collected_at is the bank's side (Pluggy's last collection of the product), read_collected_at what of
-- that our last complete read covers. Incomplete: usable, but something of it is missing.
CREATE VIEW pluggy_ops.freshness AS
SELECT p.item_id, i.connector_id, i.connector_name, p.product,
       nullif(p.scope_id, '00000000-0000-0000-0000-000000000000') AS account_id,
       i.status AS item_status, i.execution_status,
       coalesce(d.collected_at, i.last_updated_at) AS collected_at,
       p.source_updated_at AS read_collected_at, p.complete_read_at AS read_at, p.watermark,
       w.pages AS walk_pages, w.rows_seen AS walk_rows, coalesce(r.rejected_rows, 0) AS rejected_rows,
       p.attempts, p.next_try_at, p.error_id,
       CASE
           WHEN i.deleted_at IS NOT NULL THEN 'deleted'
           WHEN p.dead_at IS NOT NULL OR p.stale_reason IS NOT NULL THEN 'stale'
           WHEN p.parked_at IS NOT NULL OR n.waits_for_long THEN 'stale'
           WHEN p.complete_read_at IS NULL THEN CASE WHEN w.walk_id IS NULL THEN 'unread' ELSE 'walking' END
           WHEN n.consent_lost OR n.login_failed OR i.status = 'OUTDATED' THEN 'stale'
           WHEN n.no_auto_sync OR n.overdue OR d.not_collected THEN 'stale'
           WHEN r.rejected_rows > 0 OR d.warned THEN 'incomplete'
           ELSE 'fresh'
       END AS state,
       CASE
           WHEN i.deleted_at IS NOT NULL THEN 'item_deleted'
           WHEN i.execution_status = 'USER_AUTHORIZATION_REVOKED' THEN 'consent_revoked'
           WHEN n.consent_lost THEN 'consent_expired'
           WHEN p.parked_at IS NOT NULL THEN 'product_parked'
           WHEN p.stale_reason IS NOT NULL THEN p.stale_reason
           WHEN p.dead_at IS NOT NULL THEN p.failure_code
           WHEN n.login_failed THEN 'login_error'
           WHEN n.waits_for_long THEN lower(i.status)
           WHEN i.status = 'OUTDATED' THEN coalesce(lower(i.execution_status), 'outdated')
           WHEN n.no_auto_sync THEN 'no_auto_sync'
           WHEN n.overdue THEN 'collection_overdue'
           WHEN d.not_collected THEN 'not_collected'
           WHEN r.rejected_rows > 0 THEN 'rows_rejected'
           WHEN d.warned THEN 'collected_with_warning'
           WHEN p.awaits_rows OR c.things && ARRAY['items', p.product, p.product || '/' || p.scope_id]
               THEN 'confirming'
       END AS reason,
       b.blocked_on, CASE b.blocked_on WHEN 'user' THEN 'person' ELSE b.blocked_on END AS blocked_on_whom,
       coalesce(p.failing_since, p.deferred_since, p.parked_at, p.dead_at,
                -- Of what the bank or the user keeps back: since the last good collection.
                CASE WHEN n.login_failed OR i.status = 'OUTDATED' OR n.no_auto_sync
                          OR i.execution_status = 'USER_AUTHORIZATION_REVOKED' THEN i.last_updated_at
                     WHEN n.consent_lost THEN i.consent_expires_at
                     WHEN n.waits_for_long THEN n.status_since
                     WHEN n.overdue THEN i.next_auto_sync_at
                     WHEN d.not_collected THEN d.collected_at
                     ELSE r.rejected_since END) AS stale_since,
       p.verified_at
FROM pluggy_sync.product_sync p
LEFT JOIN pluggy.items i ON i.id = p.item_id
-- When the item's status came about is told by neither clock alone: the row may be written anew in the
-- same status, and Pluggy's updatedAt may be older than our first look.
CROSS JOIN LATERAL (
    SELECT i.status IN ('WAITING_USER_INPUT', 'WAITING_USER_ACTION') AS waits_for_user,
           i.status IN ('UPDATING', 'MERGING') AS is_collected,
           least(i.changed_at, i.source_updated_at) AS status_since) AS s
CROSS JOIN LATERAL (
    SELECT i.execution_status = 'USER_AUTHORIZATION_REVOKED' OR i.consent_expires_at <= now()
               AS consent_lost,
           i.status = 'LOGIN_ERROR' AS login_failed,
           s.waits_for_user, s.status_since,
           -- A login waits for minutes and a collection takes at most hours.
           s.waits_for_user AND s.status_since < now() - interval '1 hour'
               OR s.is_collected AND s.status_since < now() - interval '1 day' AS waits_for_long,
           -- Null and no collection under way: Pluggy does not update the item any more by itself. Of
           -- MeuPluggy (200) it is null always.
           i.next_auto_sync_at IS NULL AND i.last_updated_at IS NOT NULL
               AND NOT s.waits_for_user AND NOT s.is_collected
               AND (i.connector_id IS DISTINCT FROM 200
                    OR i.last_updated_at < now() - interval '3 days') AS no_auto_sync,
           i.next_auto_sync_at < now() - interval '1 day' AS overdue) AS n
-- statusDetail stands there if a collection was partial: what of it could not be collected keeps older
-- data, and its date. Only codes and dates are taken: Pluggy's texts may be personal.
LEFT JOIN (
    SELECT x.id, k.product, bool_or(s.detail ->> 'isUpdated' = 'false') AS not_collected,
           bool_or(s.detail -> 'warnings' -> 0 IS NOT NULL) AS warned,
           max(CASE WHEN s.detail ->> 'lastUpdatedAt'
                         ~ '^[12]\d{3}-(0[1-9]|1[0-2])-[0-3]\dT([01]\d|2[0-3])(:[0-5]\d){2}(\.\d+)?Z$'
                    -- By its day of the month, which may be none of it: a cast would fail the view.
                    THEN (left(s.detail ->> 'lastUpdatedAt', 8) || '01'
                          || substr(s.detail ->> 'lastUpdatedAt', 11))::timestamptz
                         + (substr(s.detail ->> 'lastUpdatedAt', 9, 2)::integer - 1)
                         * interval '24 hours' END) AS collected_at
    FROM pluggy.items x
    CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(x.payload -> 'statusDetail')
                                  WHEN 'object' THEN x.payload -> 'statusDetail' END) AS s(key, detail)
    JOIN (VALUES ('accounts', 'accounts'), ('accounts', 'creditCards'), ('bills', 'creditCards'),
                 ('transactions', 'transactions'), ('investments', 'investments'),
                 ('investment_transactions', 'investmentsTransactions'),
                 ('investment_transactions', 'investmentTransactions'),
                 ('loans', 'loans'), ('identities', 'identity')) AS k(product, key) ON k.key = s.key
    WHERE x.payload -> 'statusDetail' <> 'null'
    GROUP BY x.id, k.product) AS d ON d.id = p.item_id AND d.product = p.product
LEFT JOIN (
    SELECT item_id, product, scope_id, count(*) AS rejected_rows, min(rejected_at) AS rejected_since
    FROM pluggy_sync.rejected_rows GROUP BY item_id, product, scope_id) AS r
    ON r.item_id = p.item_id AND r.product = p.product AND r.scope_id = p.scope_id
LEFT JOIN pluggy_sync.account_walks w
    ON w.item_id = p.item_id AND w.account_id = p.scope_id AND p.product = 'transactions'
-- What is looked at again, because the answer contradicted an event.
LEFT JOIN (
    SELECT item_id, array_agg(confirming) AS things FROM pluggy_sync.webhook_events
    WHERE state IN ('pending', 'walking') AND confirming IS NOT NULL GROUP BY item_id) AS c
    ON c.item_id = p.item_id
CROSS JOIN LATERAL (SELECT CASE
           WHEN i.deleted_at IS NOT NULL THEN NULL
           WHEN n.consent_lost OR n.login_failed OR n.waits_for_user AND n.waits_for_long THEN 'user'
           WHEN p.stale_reason = 'empty_answer' OR i.status = 'OUTDATED' THEN 'bank'
           WHEN p.failure_class = 'retry' OR p.parked_at IS NOT NULL THEN 'pluggy'
           WHEN p.dead_at IS NOT NULL THEN 'us'
           WHEN n.waits_for_long THEN 'pluggy'
           WHEN n.no_auto_sync THEN 'user'
           WHEN n.overdue THEN 'pluggy'
           WHEN d.not_collected THEN 'bank'
           WHEN r.rejected_rows > 0 THEN 'us'
           WHEN d.warned THEN 'bank'
       END AS blocked_on) AS b;

-- Work that waits, by lane.
CREATE VIEW pluggy_ops.backlog AS
SELECT l.name AS lane, count(s.item_id) AS items,
       count(s.item_id) FILTER (WHERE s.run_at <= now()) AS due,
       count(s.item_id) FILTER (WHERE k.until > now()) AS running,
       min(s.run_at) FILTER (WHERE s.run_at <= now()) AS oldest_due_at,
       coalesce(extract(epoch FROM now() - min(s.run_at) FILTER (WHERE s.run_at <= now())), 0)::numeric(12,3)
           AS oldest_due_age_s
FROM (VALUES (0, 'live'), (1, 'retry'), (2, 'backfill'), (3, 'audit')) AS l(lane, name)
LEFT JOIN pluggy_sync.item_sync s ON s.lane = l.lane AND s.run_at IS NOT NULL
LEFT JOIN pluggy_sync.item_leases k ON k.item_id = s.item_id
GROUP BY l.lane, l.name
ORDER BY l.lane;

-- From receipt to the settlement after the commit, of events applied in the last hour.
CREATE VIEW pluggy_ops.lag AS
SELECT event, count(*) AS events,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric(12,1) AS p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric(12,1) AS p99_ms,
       max(ms)::numeric(12,1) AS max_ms
FROM (
    SELECT event, extract(epoch FROM settled_at - received_at) * 1000 AS ms
    FROM pluggy_sync.webhook_events
    WHERE state = 'applied' AND accepted_at > now() - interval '1 hour'
) AS applied
GROUP BY event;

-- Events given up on; id is what `dead-letters requeue` takes. Attempts and the times of the first and
-- the last are those of the step, as long as nothing has mended it.
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
            WHEN p.failure_class = 'retry' THEN 'Tried for three days: requeue it when the cause is mended.'
            ELSE 'Requeue it when the cause is mended.'
       END AS text,
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

CREATE VIEW pluggy_ops.flagged_deletions AS
SELECT item_id, account_id, id AS transaction_id, deletion_flag AS reason,
       deletion_flagged_at AS flagged_at, posted_on
FROM pluggy.transactions
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL
UNION ALL
SELECT item_id, id, NULL, deletion_flag, deletion_flagged_at, NULL
FROM pluggy.accounts
WHERE deletion_flagged_at IS NOT NULL AND deleted_at IS NULL;

-- Deliveries to the receivers by minute; counted in memory, so a killed receiver loses seconds of them.
CREATE VIEW pluggy_ops.deliveries AS
SELECT minute, nullif(event, '') AS event, answer, deliveries
FROM pluggy_sync.delivery_counts;

-- One row, for an autoscaler. A slot that works asks Pluggy as often as the last runs did; the rate limit
-- divided by that is what can work at the same time.
CREATE VIEW pluggy_ops.scaling AS
SELECT b.due AS items_due, b.oldest_due_age_s, w.replicas, w.slots, h.halted_at IS NOT NULL AS halted,
       CASE WHEN r.requests > 0 AND w.slots > 0 THEN
           greatest(1, floor(c.requests_per_minute / 60.0 * r.busy_s / r.requests
                             / (w.slots::numeric / w.replicas)))::integer END AS max_replicas
FROM pluggy_sync.worker_settings c
CROSS JOIN pluggy_sync.halts h
CROSS JOIN (SELECT sum(due)::bigint AS due, max(oldest_due_age_s) AS oldest_due_age_s
            FROM pluggy_ops.backlog) AS b
CROSS JOIN (SELECT count(*) AS replicas, coalesce(sum(slots), 0) AS slots FROM pluggy_sync.workers
            WHERE seen_at > now() - interval '30 seconds') AS w
CROSS JOIN (SELECT sum(api_requests) AS requests,
                   sum(extract(epoch FROM finished_at - started_at)) AS busy_s
            FROM (SELECT api_requests, started_at, finished_at FROM pluggy_sync.runs
                  ORDER BY id DESC LIMIT 2000) AS newest
            WHERE finished_at > now() - interval '10 minutes') AS r;

-- Items of one bank that the same user of yours has connected more than once: what they hold counts
-- twice. The user's id is personal and not shown.
CREATE VIEW pluggy_ops.duplicate_connections AS
SELECT connector_id, max(connector_name) AS connector_name, count(*) AS items,
       array_agg(id ORDER BY first_seen_at, id) AS item_ids, min(first_seen_at) AS first_seen_at,
       max(last_updated_at) AS last_updated_at
FROM pluggy.items
WHERE deleted_at IS NULL AND client_user_id <> ''
GROUP BY connector_id, client_user_id
HAVING count(*) > 1;
