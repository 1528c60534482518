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
CROSS JOIN pluggy_sync.periodic_task_leases t
WHERE t.name = 'subscriptions'
UNION ALL
SELECT NULL, 'all', NULL, 'unchecked', NULL, t.done_at, t.done_at,
       'The list of webhooks cannot be read (' || t.failure_code || '): it is asked again every ten minutes.'
FROM pluggy_sync.periodic_task_leases t
WHERE t.name = 'subscriptions' AND t.failure_code IS NOT NULL;

COMMENT ON VIEW pluggy_ops.subscriptions IS
    'Webhooks as they are registered at Pluggy, with what is wrong about them. Empty without '
    'WEBHOOK_URL';
COMMENT ON COLUMN pluggy_ops.subscriptions.hook_id IS
    'Pluggy''s id of the webhook; null: it is missing';
COMMENT ON COLUMN pluggy_ops.subscriptions.event IS
    'Name of the event that the webhook is for; all: every event';
COMMENT ON COLUMN pluggy_ops.subscriptions.host IS
    'Host that it goes to; null: none can be read, or the list cannot';
COMMENT ON COLUMN pluggy_ops.subscriptions.state IS
    'ok, elsewhere (not ours), missing, disabled, wrong_secret, wrong_url, wrong_path, double, or '
    'unchecked (the list cannot be read)';
COMMENT ON COLUMN pluggy_ops.subscriptions.disabled_at IS
    'When Pluggy disabled it, UTC; null: it has not';
COMMENT ON COLUMN pluggy_ops.subscriptions.since IS 'Since when, UTC; null: not known';
COMMENT ON COLUMN pluggy_ops.subscriptions.checked_at IS
    'When Pluggy''s list was last read, UTC; null: never';
COMMENT ON COLUMN pluggy_ops.subscriptions.advice IS 'How to fix it; null: it is right';
