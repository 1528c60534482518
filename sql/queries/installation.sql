-- name: load_installation
SELECT client_id, base_url FROM pluggy_sync.installation;

-- name: remember_installation
-- Only the first process writes; a second one compares. $1 client id, $2 base URL.
INSERT INTO pluggy_sync.installation (client_id, base_url) VALUES ($1, $2)
ON CONFLICT (only_row) DO NOTHING;

-- name: adopt_installation
-- $1 client id, $2 base URL.
INSERT INTO pluggy_sync.installation (client_id, base_url) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE
SET client_id = excluded.client_id, base_url = excluded.base_url, adopted_at = clock_timestamp();
