-- What the nets found that webhooks lost, and all that waits for a person.

-- Collections that nobody told of: waiting while a webhook may still come, proven three hours later.
CREATE VIEW pluggy_ops.missed_webhooks AS
SELECT m.item_id, i.connector_id, i.connector_name, m.source_updated_at AS collected_at, m.found_at,
       CASE WHEN m.judged_at IS NULL THEN 'waiting' ELSE 'proven' END AS state, m.judged_at
FROM pluggy_sync.missed_webhooks m
LEFT JOIN pluggy.items i ON i.id = m.item_id
WHERE m.announced_at IS NULL;

-- Rows that a verify had to repair, by run; freshness says when each product was verified.
CREATE VIEW pluggy_ops.drift AS
SELECT d.item_id, i.connector_id, i.connector_name, d.product,
       nullif(d.scope_id, '00000000-0000-0000-0000-000000000000') AS account_id,
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
       'The list of webhooks cannot be read (' || t.failure_code || '): it is asked again every ten minutes.'
FROM pluggy_sync.turns t
WHERE t.name = 'subscriptions' AND t.failure_code IS NOT NULL;
