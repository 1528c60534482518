-- What the nets found that webhooks lost, and all that waits for a person.

-- Collections that nobody told of: waiting while a webhook may still come, proven three hours later.
CREATE VIEW pluggy_ops.missed_webhooks AS
SELECT m.item_id, i.connector_id, i.connector_name, m.source_updated_at AS collected_at, m.found_at,
       CASE WHEN m.judged_at IS NULL THEN 'waiting' ELSE 'proven' END AS state, m.judged_at
FROM pluggy_sync.missed_webhooks m
LEFT JOIN pluggy.items i ON i.id = m.item_id
WHERE m.told_at IS NULL;

-- Rows that a verify had to repair, by run; freshness says when each product was verified.
CREATE VIEW pluggy_ops.drift AS
SELECT d.item_id, i.connector_id, i.connector_name, d.product,
       nullif(d.account_id, '00000000-0000-0000-0000-000000000000') AS account_id,
       d.inserted, d.changed, d.deleted, d.found_at, d.run_id
FROM pluggy_sync.drift d
LEFT JOIN pluggy.items i ON i.id = d.item_id;

-- Webhooks as Pluggy has them, and what to do about those that are wrong. Empty without WEBHOOK_URL.
CREATE VIEW pluggy_ops.subscriptions AS
SELECT s.hook_id, s.event, s.host, s.state, s.disabled_at, s.since, t.done_at AS checked_at,
       CASE s.state
           WHEN 'missing' THEN 'Pluggy tells us nothing of this event: run pluggy-sync webhooks register.'
           WHEN 'disabled' THEN 'Pluggy has disabled this webhook after failed deliveries: see that'
               || ' WEBHOOK_URL answers from outside, then run pluggy-sync webhooks register.'
           WHEN 'wrong_secret' THEN 'Deliveries of this webhook are refused, for its secret is none of'
               || ' WEBHOOK_SECRET: run pluggy-sync webhooks register.'
           WHEN 'wrong_url' THEN 'This webhook goes to our host but not to WEBHOOK_URL: delete it, or set'
               || ' its url to WEBHOOK_URL.'
           WHEN 'wrong_path' THEN 'The receiver answers at /webhooks/pluggy, and WEBHOOK_URL ends otherwise:'
               || ' correct it, restart the workers, then run pluggy-sync webhooks register.'
           WHEN 'double' THEN 'Another webhook tells us the same: delete this one.'
       END AS advice
FROM pluggy_sync.subscriptions s
CROSS JOIN pluggy_sync.turns t
WHERE t.name = 'subscriptions'
UNION ALL
SELECT NULL, 'all', NULL, 'unchecked', NULL, t.done_at, t.done_at,
       'The list of webhooks cannot be read (' || t.failure_code || '): nothing to do if Pluggy is down.'
FROM pluggy_sync.turns t
WHERE t.name = 'subscriptions' AND t.failure_code IS NOT NULL;

-- What no machine can settle, the oldest first.
CREATE VIEW pluggy_ops.worklist AS
SELECT w.kind, w.item_id, i.connector_id, i.connector_name, w.account_id, w.since, w.what_to_do
FROM (
    SELECT 'item_not_found' AS kind, item_id, NULL::uuid AS account_id, dead_at AS since,
           'Pluggy does not know this item and has sent no item/deleted: if it was deleted, or never'
           || ' existed, deliver {"event": "item/deleted", "itemId": "' || item_id
           || '"} to the receiver yourself.' AS what_to_do
    FROM pluggy_sync.product_sync
    WHERE product = 'items' AND dead_at IS NOT NULL AND failure_code LIKE '404:%'
    UNION ALL
    SELECT 'reconnect', item_id, NULL, min(coalesce(stale_since, collected_at)),
           'The person has to connect again: ' || reason || '.'
    FROM pluggy_ops.freshness
    WHERE reason IN ('login_error', 'consent_revoked', 'consent_expired')
    GROUP BY item_id, reason
    UNION ALL
    SELECT 'no_auto_sync', item_id, NULL, min(collected_at),
           'Pluggy no longer updates this item by itself: update it, or have the person connect again.'
    FROM pluggy_ops.freshness
    WHERE reason = 'no_auto_sync'
    GROUP BY item_id
    UNION ALL
    SELECT 'collection_overdue', id, NULL, next_auto_sync_at,
           'Pluggy has promised a collection over a day ago and not made it: ask Pluggy''s support.'
    FROM pluggy.items
    WHERE deleted_at IS NULL AND next_auto_sync_at < now() - interval '1 day'
    UNION ALL
    SELECT 'dead_letters', item_id, NULL, min(settled_at),
           count(*) || ' events were given up on: look at dead_letters and requeue what is mended.'
    FROM pluggy_sync.webhook_events WHERE state = 'dead'
    GROUP BY item_id
    UNION ALL
    SELECT 'flagged_deletions', item_id, account_id, min(flagged_at),
           count(*) || ' rows are gone at Pluggy but not proven deleted: accept or refuse them.'
    FROM pluggy_ops.flagged_deletions
    GROUP BY item_id, account_id
    UNION ALL
    SELECT 'verify_late', item_id, NULL, min(accepted_at),
           'A verify waits for over two days: add workers, or see in backlog what goes before it.'
    FROM pluggy_sync.webhook_events
    WHERE state IN ('pending', 'walking') AND event = 'sync/verify'
      -- Somebody's order to read all anew may take as long as it takes.
      AND event_id NOT LIKE 'resync:%'
      AND accepted_at < now() - interval '2 days'
    GROUP BY item_id
    UNION ALL
    SELECT 'missed_webhooks', NULL, NULL, min(found_at),
           count(*) || ' collections of the last week came without a webhook: look at subscriptions, and'
           || ' whether the receiver was away.'
    FROM pluggy_ops.missed_webhooks
    WHERE state = 'proven' AND found_at > now() - interval '7 days'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'subscription', NULL, NULL, since, event || ' at ' || coalesce(host, 'no host') || ': ' || advice
    FROM pluggy_ops.subscriptions
    WHERE state NOT IN ('ok', 'elsewhere')
) AS w
LEFT JOIN pluggy.items i ON i.id = w.item_id
ORDER BY w.since;
