-- Fills a migrated database with $1 items, eight steps and ten events for each. One item in a hundred is
-- not well: logins that failed, banks that are down, partial or missing collections, consents that have
-- ended; one step in 2,500 fails or is given up, one in 10,000 has a rejected row. One event in a thousand
-- is open, one in two thousand dead, and one item in fifty is due.
INSERT INTO pluggy.items (id, connector_id, connector_name, status, execution_status, source_updated_at,
    last_updated_at, next_auto_sync_at, consent_expires_at, payload, row_hash, row_version, run_id)
SELECT md5('item' || n)::uuid, 600 + n % 40, 'Bank ' || n % 40, CASE n % 500 WHEN 1 THEN 'LOGIN_ERROR' WHEN 2 THEN 'OUTDATED' ELSE 'UPDATED' END, 'SUCCESS', now() - interval '1 day',
       now() - n % 1000 * interval '1 minute',
       now() + CASE WHEN n % 500 = 4 THEN interval '-2 days' ELSE n % 1000 * interval '1 minute' END,
       now() + CASE n % 500 WHEN 0 THEN interval '-1 day' ELSE n % 300 * interval '1 day' END, jsonb_build_object('statusDetail', CASE n % 500 WHEN 3 THEN
    '{"loans": {"isUpdated": false, "warnings": [{"code": "001"}],
                "lastUpdatedAt": "2026-10-01T00:00:00.000Z"}}'::jsonb ELSE 'null'::jsonb END), '\x00', 1, 1
FROM generate_series(1, $1::integer) AS n;

INSERT INTO pluggy.accounts (item_id, id, payload, row_hash, row_version, run_id)
SELECT md5('item' || n)::uuid, md5('account' || n)::uuid, '{}', '\x00', 1, 1
FROM generate_series(1, $1::integer) AS n;

INSERT INTO pluggy_sync.product_sync (item_id, product, scope_id, first_read_at, complete_read_at,
    source_updated_at, watermark, attempts, failing_since, failed_at, next_try_at, dead_at,
    failure_class, failure_code)
SELECT md5('item' || n)::uuid, p.product, CASE WHEN p.number IN (3, 4, 5) THEN md5(n || p.number::text)::uuid
                                  ELSE '00000000-0000-0000-0000-000000000000' END,
       now() - interval '90 days', now() - n % 1000 * interval '1 minute',
       now() - n % 1000 * interval '1 minute', now() - n % 1000 * interval '1 minute',
       CASE WHEN f.fails THEN 3 ELSE 0 END, f.at, f.at, f.at, f.dead_at,
       CASE WHEN f.fails THEN 'retry' END, CASE WHEN f.fails THEN '500' END
FROM generate_series(1, $1::integer) AS n
CROSS JOIN (VALUES (1, 'items'), (2, 'accounts'), (3, 'transactions'), (4, 'transactions'), (5, 'bills'),
                   (6, 'investments'), (7, 'loans'), (8, 'identities')) AS p(number, product)
CROSS JOIN LATERAL (SELECT (n * 8 + p.number) % 5000 < 2 AS fails) AS g
CROSS JOIN LATERAL (SELECT g.fails, CASE WHEN g.fails THEN now() - interval '1 hour' END AS at,
                           CASE WHEN g.fails AND n % 2 = 0 THEN now() END AS dead_at) AS f;

INSERT INTO pluggy_sync.rejected_rows (item_id, product, scope_id, row_id, reason, body, run_id)
SELECT item_id, product, scope_id, 'r', 'wrong_type', '', 1
FROM (SELECT *, row_number() OVER () AS place FROM pluggy_sync.product_sync) AS p
WHERE place % 10000 = 0;

WITH made AS (
    INSERT INTO pluggy_sync.item_leases (item_id)
    SELECT md5('item' || n)::uuid FROM generate_series(1, $1::integer) AS n
)
INSERT INTO pluggy_sync.item_sync (item_id, generation, done_generation, lane, run_at)
SELECT md5('item' || n)::uuid, 10, 10, CASE WHEN n % 50 = 0 THEN n / 50 % 4 ELSE 3 END,
       CASE WHEN n % 50 = 0 THEN now() - (n % 3600) * interval '1 second' END
FROM generate_series(1, $1::integer) AS n;

INSERT INTO pluggy_sync.item_reconciliations (item_id, verify_at)
SELECT md5('item' || n)::uuid, now() + interval '3 days' FROM generate_series(1, $1::integer) AS n;

INSERT INTO pluggy_sync.webhook_events (event_id, body_sha256, event, item_id, body, received_at,
    accepted_at, pending_since, lane, state, reason, visible_at, settled_at, run_id)
SELECT 'e' || e, '\x00', (ARRAY['item/updated', 'transactions/created', 'sync/recent'])[1 + e % 3],
       md5('item' || 1 + e % $1::integer)::uuid, convert_to('{"event": "item/updated"}', 'UTF8'),
       at, at, at, 0, state, CASE state WHEN 'dead' THEN '500' END,
       CASE state WHEN 'applied' THEN at + interval '150 ms' END,
       CASE WHEN state IN ('applied', 'dead') THEN at + interval '200 ms' END, 1
FROM generate_series(1, $1::integer * 10) AS e
CROSS JOIN LATERAL (
    SELECT now() - (1 - e::numeric / ($1 * 10)) * interval '90 days' AS at,
        CASE WHEN e % 1000 = 7 THEN 'pending' WHEN e % 2000 = 8 THEN 'dead' ELSE 'applied' END AS state) AS s;

INSERT INTO pluggy_sync.runs (seq, item_id, kind, started_at, finished_at, outcome, api_requests)
SELECT n, md5('item' || n)::uuid, 'sync', now() - interval '1 minute', now(), 'done', 8
FROM generate_series(1, $1::integer) AS n;

INSERT INTO pluggy_sync.workers (worker_id, slots) VALUES ('bench', 4);
