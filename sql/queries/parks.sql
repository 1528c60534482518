-- name: count_refused_items
-- params: product, failure_code
-- returns: one RefusedItems
-- Items whose step of a product was refused in the last five minutes, and whether any item's was
-- read since the first of them. failure_code counts whatever its class.
WITH refused AS (
    SELECT item_id, failed_at FROM pluggy_sync.product_sync
    WHERE product = $1 AND failed_at > now() - interval '5 minutes'
      AND (failure_class = 'refused' OR failure_code = $2)
)
SELECT count(DISTINCT item_id) AS items,
       EXISTS (SELECT FROM pluggy_sync.product_sync p
               WHERE p.product = $1
                 AND p.complete_read_at > (SELECT min(failed_at) FROM refused)) AS others_succeed
FROM refused;

-- name: find_other_scopes
-- params: product, item_id, scope_id, limit, scope
-- returns: many Scope
-- Items, or accounts or investments, whose list of a product was not refused in the last five
-- minutes: of other items first. scope: whose lists they are.
SELECT s.item_id, s.scope_id
FROM (
    SELECT i.id AS item_id, '00000000-0000-0000-0000-000000000000'::uuid AS scope_id
    FROM pluggy.items i
    WHERE i.deleted_at IS NULL
      AND ($5 = 'item'
           OR ($5 = 'item_with_consents' AND (i.connector_is_open_finance OR i.connector_id = 200)))
    UNION ALL
    SELECT a.item_id, a.id FROM pluggy.accounts a
    WHERE a.deleted_at IS NULL AND ($5 = 'account' OR ($5 = 'card' AND a.type = 'CREDIT'))
    UNION ALL
    SELECT n.item_id, n.id FROM pluggy.investments n
    WHERE n.deleted_at IS NULL AND $5 = 'investment'
) AS s
LEFT JOIN pluggy_sync.product_sync p
    ON p.item_id = s.item_id AND p.product = $1 AND p.scope_id = s.scope_id
WHERE (s.item_id, s.scope_id) <> ($2::uuid, $3::uuid)
  AND (p.failed_at IS NULL OR p.failed_at <= now() - interval '5 minutes')
ORDER BY s.item_id = $2::uuid, random()
LIMIT $4;

-- name: park_product
-- params: product, endpoint?, failure_code, error_id?, items, advice, probe_every
-- returns: value
-- Leaves a product out from now on; its steps that were refused, and what died of them in the last
-- five minutes, are made due, for they wait no longer. Returns whether it was not parked before.
WITH parked AS (
    INSERT INTO pluggy_sync.parked_products
        (product, endpoint, failure_code, error_id, items, advice, probe_at)
    VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
    ON CONFLICT (product) DO NOTHING
    RETURNING product
), steps AS (
    UPDATE pluggy_sync.product_sync p
    SET parked_at = now(), stale_reason = 'product_parked', dead_at = NULL, dead_seq = NULL,
        attempts = 0, failing_since = NULL, failed_at = NULL, next_try_at = NULL
    FROM parked k
    WHERE p.product = k.product AND (p.failure_class = 'refused' OR p.failure_code = $3)
      AND (p.dead_at IS NULL OR p.dead_at > now() - interval '5 minutes')
    RETURNING p.item_id
), revived AS (
    SELECT count(*) AS events FROM pluggy_sync.revive_events(
        'dead',
        ARRAY(SELECT id FROM pluggy_sync.webhook_events
              WHERE state = 'dead' AND reason = $3 AND settled_at > now() - interval '5 minutes'
                AND item_id IN (SELECT item_id FROM steps)),
        ARRAY(SELECT item_id FROM steps))
)
SELECT EXISTS (SELECT FROM parked) AS is_new FROM revived;

-- name: mark_parked_steps
-- params: item_id, products, scope_ids
-- returns: none
-- Steps that a claim has left out because their product was parked when it loaded the item. One that
-- was unparked since is marked too: the item is then due for it at the end of the claim.
INSERT INTO pluggy_sync.product_sync AS p
    (item_id, product, scope_id, parked_at, stale_reason, failure_class, failure_code, error_id,
     failure_endpoint)
SELECT $1, s.product, s.scope_id, now(), 'product_parked', 'refused', k.failure_code, k.error_id,
       k.endpoint
FROM unnest($2::text[], $3::uuid[]) AS s(product, scope_id)
LEFT JOIN pluggy_sync.parked_products k USING (product)
ON CONFLICT (item_id, product, scope_id) DO UPDATE SET
    parked_at = excluded.parked_at, stale_reason = excluded.stale_reason,
    failure_class = excluded.failure_class, failure_code = excluded.failure_code,
    error_id = excluded.error_id, failure_endpoint = excluded.failure_endpoint,
    attempts = 0, failing_since = NULL, failed_at = NULL, next_try_at = NULL, dead_at = NULL,
    dead_seq = NULL
    WHERE p.parked_at IS NULL;

-- name: claim_park_probe
-- params: pause
-- returns: one? ParkedProduct
-- A parked product whose probe is due, which is then due again after the pause; none while
-- everything is halted.
UPDATE pluggy_sync.parked_products
SET probe_at = now() + $1::interval, probed_at = clock_timestamp()
WHERE product = (SELECT product FROM pluggy_sync.parked_products
                 WHERE probe_at <= now() ORDER BY probe_at LIMIT 1 FOR UPDATE SKIP LOCKED)
  AND NOT EXISTS (SELECT FROM pluggy_sync.halts WHERE halted_at IS NOT NULL)
RETURNING product, parked_at;

-- name: load_parked_scopes
-- params: product, limit
-- returns: many Scope
-- Some of what was left out of a product, at random.
WITH parked AS (
    SELECT item_id, scope_id FROM pluggy_sync.product_sync
    WHERE product = $1 AND parked_at IS NOT NULL
)
SELECT p.item_id, p.scope_id
FROM parked p
JOIN pluggy.items i ON i.id = p.item_id AND i.deleted_at IS NULL
ORDER BY random()
LIMIT $2;

-- name: delay_park_probe
-- params: product, pause
-- returns: none
-- A probe that said nothing is repeated sooner.
UPDATE pluggy_sync.parked_products SET probe_at = now() + $2::interval WHERE product = $1;

-- name: unpark_unwanted
-- params: products
-- returns: none
-- What is parked and not asked for any more holds nothing back.
DELETE FROM pluggy_sync.parked_products WHERE NOT product = ANY ($1::text[]);

-- name: unpark_product
-- params: product, parked_at
-- returns: none
-- Steps that were left out keep their mark until free_steps takes it from their item.
DELETE FROM pluggy_sync.parked_products WHERE product = $1 AND parked_at = $2 RETURNING product;

-- name: load_unparked_items
-- params: limit
-- returns: values
-- Items of which something was left out of a product that is parked no longer. None that a claim
-- has, though its lease may have lapsed: it may have loaded the item before, and would settle events
-- without what is free by now.
SELECT DISTINCT p.item_id
FROM pluggy_sync.product_sync p
JOIN pluggy_sync.item_leases l ON l.item_id = p.item_id AND l.token IS NULL
WHERE p.parked_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM pluggy_sync.parked_products k WHERE k.product = p.product)
LIMIT $1;

-- name: free_steps
-- params: item_ids
-- returns: value
-- Steps of products that are parked no longer may be taken, and the events that were settled
-- without them are pending again. Returns how many events that were.
WITH steps AS (
    UPDATE pluggy_sync.product_sync p
    SET parked_at = NULL, stale_reason = NULL, failure_class = NULL, failure_code = NULL,
        error_id = NULL, failure_endpoint = NULL, failed_at = NULL, failing_since = NULL,
        attempts = 0, next_try_at = NULL, dead_at = NULL,
    dead_seq = NULL
    WHERE p.item_id = ANY ($1::uuid[]) AND p.parked_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM pluggy_sync.parked_products k WHERE k.product = p.product)
)
SELECT count(*) AS revived FROM pluggy_sync.revive_events(
    'ignored',
    ARRAY(SELECT id FROM pluggy_sync.webhook_events
          WHERE item_id = ANY ($1::uuid[]) AND state = 'ignored' AND reason = 'product_parked'),
    '{}');
