CREATE VIEW pluggy_ops.overview AS
WITH findings AS MATERIALIZED (SELECT * FROM pluggy_sync.found),
     worst AS (SELECT * FROM findings WHERE severity IN ('red', 'yellow') ORDER BY weight DESC LIMIT 1)
SELECT coalesce(f.severity, 'green') AS light,
       coalesce(f.what, 'All is well.') AS sentence, f.since,
       (SELECT count(*) FROM findings WHERE severity IN ('red', 'yellow')) AS findings,
       (SELECT count(*) FROM findings WHERE severity = 'info') AS findings_info,
    h.halted_at, h.failure_code AS halted_by, w.live AS workers, w.slots,
    i.items, e.pending AS events_pending, e.walking AS events_walking, d.dead AS dead_letters,
    b.due AS items_due, b.oldest_due_age_s,
    coalesce((SELECT how_many FROM findings WHERE kind = 'stale'), 0) AS stale_products,
    coalesce((SELECT how_many FROM findings WHERE kind = 'incomplete'), 0) AS incomplete_products,
    s.wrong AS subscriptions_wrong,
    e.last_accepted_at, coalesce((SELECT how_many FROM findings WHERE kind = 'events_late'), 0) AS events_late
FROM pluggy_sync.halts h
LEFT JOIN worst f ON true
CROSS JOIN (SELECT count(*) AS live, coalesce(sum(slots), 0) AS slots FROM pluggy_sync.workers
            WHERE seen_at > now() - interval '30 seconds') AS w
-- Two counts that read indexes alone.
CROSS JOIN (SELECT (SELECT count(*) FROM pluggy.items)
                   - (SELECT count(*) FROM pluggy.items WHERE deleted_at IS NOT NULL) AS items) AS i
CROSS JOIN (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
                   count(*) FILTER (WHERE state = 'walking') AS walking,
                   (SELECT max(accepted_at) FROM pluggy_sync.webhook_events) AS last_accepted_at
            FROM pluggy_sync.webhook_events WHERE state IN ('pending', 'walking')) AS e
CROSS JOIN (SELECT count(*) AS dead FROM pluggy_sync.webhook_events WHERE state = 'dead') AS d
CROSS JOIN (SELECT count(*)::numeric AS due,
                   round(coalesce(extract(epoch FROM now() - min(run_at)), 0), 3) AS oldest_due_age_s
            FROM pluggy_sync.item_sync WHERE run_at <= now()) AS b
CROSS JOIN (SELECT count(*) AS wrong FROM pluggy_ops.subscriptions
            WHERE state NOT IN ('ok', 'elsewhere', 'unchecked')) AS s;

COMMENT ON VIEW pluggy_ops.overview IS
    'Exactly one row: whether the service is well, the heaviest finding, and counts';
COMMENT ON COLUMN pluggy_ops.overview.light IS
    'Whether the service is well: green, yellow or red, by findings; users'' findings do not count';
COMMENT ON COLUMN pluggy_ops.overview.sentence IS
    'The heaviest finding that colours the light, or that all is well';
COMMENT ON COLUMN pluggy_ops.overview.since IS
    'Since when the heaviest finding stands, UTC; null: the light is green, or it is not known';
COMMENT ON COLUMN pluggy_ops.overview.findings IS 'Kinds of findings that colour the light';
COMMENT ON COLUMN pluggy_ops.overview.findings_info IS
    'Kinds of findings that do not, such as those of users';
COMMENT ON COLUMN pluggy_ops.overview.halted_at IS
    'Since when everything is parked, UTC; null: it is not';
COMMENT ON COLUMN pluggy_ops.overview.halted_by IS
    'The code that parked everything; null: it is not';
COMMENT ON COLUMN pluggy_ops.overview.workers IS 'Workers that reported within the last 30 seconds';
COMMENT ON COLUMN pluggy_ops.overview.slots IS 'Job slots of these workers together';
COMMENT ON COLUMN pluggy_ops.overview.items IS 'Stored items, deleted ones not counted';
COMMENT ON COLUMN pluggy_ops.overview.events_pending IS 'Events that wait to be applied';
COMMENT ON COLUMN pluggy_ops.overview.events_walking IS
    'Events that wait for the walk of an account';
COMMENT ON COLUMN pluggy_ops.overview.dead_letters IS 'Events that were given up on';
COMMENT ON COLUMN pluggy_ops.overview.items_due IS 'Items that have work now and that no worker has leased';
COMMENT ON COLUMN pluggy_ops.overview.oldest_due_age_s IS
    'Seconds that the oldest due item waits; 0: none is due';
COMMENT ON COLUMN pluggy_ops.overview.stale_products IS
    'Rows of freshness that are stale, for any party';
COMMENT ON COLUMN pluggy_ops.overview.incomplete_products IS
    'Rows of freshness that are incomplete';
COMMENT ON COLUMN pluggy_ops.overview.subscriptions_wrong IS
    'Webhooks at Pluggy that are missing or wrong';
COMMENT ON COLUMN pluggy_ops.overview.last_accepted_at IS
    'When the last event was accepted, our own too, UTC; null: none yet';
COMMENT ON COLUMN pluggy_ops.overview.events_late IS
    'Events that a limit has deferred for over five minutes';
