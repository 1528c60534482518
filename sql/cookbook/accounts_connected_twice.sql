-- Accounts that are live through two items: their rows count twice in every sum, until one item is deleted.
-- $1: a clientUserId, null for all.
SELECT d.item_id, d.account_id, d.other_item_id, d.other_account_id, d.type, d.reason,
       i.connector_name AS bank, i.last_updated_at, o.last_updated_at AS other_last_updated_at
FROM pluggy_live.duplicate_accounts d
JOIN pluggy_live.items i ON i.id = d.item_id
JOIN pluggy_live.items o ON o.id = d.other_item_id
WHERE $1::text IS NULL OR i.client_user_id = $1 OR o.client_user_id = $1
ORDER BY d.first_seen_at, 1, 2, 3, 4;
