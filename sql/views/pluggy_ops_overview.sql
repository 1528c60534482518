-- Built on the other views: the file's name puts it behind them.

-- One row: is anything wrong, and what to do about it.
CREATE VIEW pluggy_ops.overview AS
SELECT
    CASE WHEN h.failure_code = 'pluggy_down' THEN 'yellow'
         WHEN h.halted_at IS NOT NULL OR w.live = 0 THEN 'red'
         WHEN d.dead > 0 OR b.oldest_due_age_s > 60 OR f.stale > 0
              OR f.incomplete > 0 OR s.wrong > 0 OR t.late > 0
              THEN 'yellow'
         ELSE 'green' END AS light,
    CASE WHEN h.halted_at IS NOT NULL THEN 'Halted: ' || h.advice
         WHEN w.live = 0 THEN 'No worker is alive: start one, webhooks are kept until then.'
         WHEN t.late > 0 THEN 'Webhooks wait for over five minutes: failure_code in runs says why; of 429 and'
              || ' rate_budget, Pluggy''s rate limit is used up, which more workers do not mend.'
         WHEN b.oldest_due_age_s > 60 THEN 'Work waits for over a minute: look at backlog and add workers.'
         WHEN d.dead > 0 THEN 'Look at dead_letters and requeue what is mended.'
         WHEN s.wrong > 0 THEN 'Webhooks at Pluggy are missing or wrong: subscriptions says which.'
         WHEN f.stale > 0 THEN 'Some products are stale: freshness says why and whose turn it is.'
         WHEN f.incomplete > 0 THEN 'Some products are incomplete: freshness says why and whose turn it is.'
         ELSE 'All is well.' END AS advice,
    h.halted_at, h.failure_code AS halted_by, w.live AS workers, w.slots,
    i.items, e.pending AS events_pending, e.walking AS events_walking, d.dead AS dead_letters,
    b.due AS items_due, b.oldest_due_age_s, f.stale AS stale_products,
    f.incomplete AS incomplete_products,
    s.wrong AS subscriptions_wrong,
    e.last_accepted_at, t.late AS events_late
FROM pluggy_sync.halts h
CROSS JOIN (SELECT count(*) AS live, coalesce(sum(slots), 0) AS slots FROM pluggy_sync.workers
            WHERE seen_at > now() - interval '30 seconds') AS w
CROSS JOIN (SELECT count(*) AS items FROM pluggy.items WHERE deleted_at IS NULL) AS i
CROSS JOIN (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
                   count(*) FILTER (WHERE state = 'walking') AS walking,
                   (SELECT max(accepted_at) FROM pluggy_sync.webhook_events) AS last_accepted_at
            FROM pluggy_sync.webhook_events WHERE state IN ('pending', 'walking')) AS e
CROSS JOIN (SELECT count(*) AS dead FROM pluggy_sync.webhook_events WHERE state = 'dead') AS d
CROSS JOIN (SELECT coalesce(sum(due), 0) AS due, coalesce(max(oldest_due_age_s), 0) AS oldest_due_age_s
            FROM pluggy_ops.backlog) AS b
CROSS JOIN (SELECT count(*) FILTER (WHERE state = 'stale') AS stale,
                   count(*) FILTER (WHERE state = 'incomplete') AS incomplete
            FROM pluggy_ops.freshness) AS f
CROSS JOIN (SELECT count(*) AS wrong FROM pluggy_ops.subscriptions
            WHERE state NOT IN ('ok', 'elsewhere', 'unchecked')) AS s
-- Told by webhook and put off again and again by a limit. Nothing else says so: what fails or proves
-- nothing is stale, and a collection under way puts off the event, not a step.
CROSS JOIN (SELECT count(*) AS late
            FROM pluggy_sync.webhook_events w
            WHERE w.state = 'pending' AND w.lane = 0 AND w.ask_again_at IS NULL
              AND w.pending_since < now() - interval '5 minutes'
              AND EXISTS (SELECT FROM pluggy_sync.product_sync p
                          WHERE p.item_id = w.item_id AND p.next_try_at IS NOT NULL
                            AND p.attempts = 0 AND p.deferred_since IS NULL)) AS t;
