-- name: mirrored_items
-- params: connector_id?, client_user_id?, after, limit
-- returns: values
-- Items to be read again, in the order of their ids. Null: any; after: this id.
SELECT id AS item_id FROM pluggy.items
WHERE deleted_at IS NULL AND ($1::integer IS NULL OR connector_id = $1)
  AND ($2::text IS NULL OR client_user_id = $2) AND id > $3
ORDER BY id LIMIT $4;

-- name: announced_items
-- params: connector_id?, client_user_id?, after, limit, accepted_from, accepted_before
-- returns: values
-- The same, of those that webhooks have told of within a time; also if nothing of them was mirrored
-- yet. Null: any; after: this id.
WITH announced AS (
    SELECT DISTINCT item_id FROM pluggy_sync.webhook_events
    WHERE accepted_at >= $5 AND accepted_at < $6 AND event NOT LIKE 'sync/%' AND item_id > $3
)
SELECT e.item_id
FROM announced e
LEFT JOIN pluggy.items i ON i.id = e.item_id
WHERE i.deleted_at IS NULL AND ($1::integer IS NULL OR i.connector_id = $1)
  AND ($2::text IS NULL OR i.client_user_id = $2)
  AND (i.id IS NOT NULL
       OR NOT EXISTS (SELECT FROM pluggy_sync.purge_receipts r WHERE r.item_id = e.item_id))
ORDER BY e.item_id LIMIT $4;

-- name: load_resynced
-- params: event_ids
-- returns: many ResyncedItem
-- nullable: item_id
-- How far a resync is.
SELECT item_id, state FROM pluggy_sync.webhook_events WHERE event_id = ANY ($1::text[]);

-- name: estimate_resync
-- params: item_ids, rows_a_page
-- returns: one ResyncEstimate
-- How many lists a full read of items takes, by what they belong to, and how many pages of
-- transactions: what is held tells how much there is.
WITH chosen AS (
    SELECT unnest($1::uuid[]) AS item_id
), accounts AS (
    SELECT a.item_id, a.id, a.type FROM pluggy.accounts a JOIN chosen USING (item_id)
    WHERE a.deleted_at IS NULL
), stored AS (
    SELECT t.item_id, t.account_id, count(*) AS rows
    FROM pluggy.transactions t JOIN chosen USING (item_id)
    WHERE t.deleted_at IS NULL
    GROUP BY t.item_id, t.account_id
)
SELECT (SELECT coalesce(sum(greatest(1, (coalesce(h.rows, 0) + $2 - 1) / $2)), 0)::bigint
        FROM accounts a
        LEFT JOIN stored h ON h.item_id = a.item_id AND h.account_id = a.id) AS transaction_pages,
       (SELECT count(*) FROM chosen) AS item,
       (SELECT count(*) FROM pluggy.items i JOIN chosen c ON c.item_id = i.id
        WHERE i.connector_is_open_finance OR i.connector_id = 200) AS item_with_consents,
       (SELECT count(*) FROM accounts) AS account,
       (SELECT count(*) FROM accounts WHERE type = 'CREDIT') AS card,
       (SELECT count(*) FROM pluggy.investments n JOIN chosen USING (item_id)
        WHERE n.deleted_at IS NULL) AS investment;
