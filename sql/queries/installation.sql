-- name: load_installation
-- returns: one? Installation
SELECT client_id, base_url FROM pluggy_sync.installation;

-- name: remember_installation
-- params: client_id, base_url
-- returns: none
-- Only the first process writes; a second one compares.
INSERT INTO pluggy_sync.installation (client_id, base_url) VALUES ($1, $2)
ON CONFLICT (only_row) DO NOTHING;

-- name: adopt_installation
-- params: client_id, base_url
-- returns: none
INSERT INTO pluggy_sync.installation (client_id, base_url) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE
SET client_id = excluded.client_id, base_url = excluded.base_url, adopted_at = clock_timestamp();

-- name: remember_worker_settings
-- params: zone, requests_per_minute, keep_ended
-- returns: value?
-- What views need to know of the settings; nothing is written if it is known. A zone that Postgres
-- does not know would fail every view of it: it is left out, and null returned.
WITH known AS (
    SELECT name FROM pg_timezone_names WHERE name = $1
), remembered AS (
    UPDATE pluggy_sync.worker_settings s
    SET posted_on_zone = coalesce((SELECT name FROM known), s.posted_on_zone), requests_per_minute = $2,
        keep_ended = $3, reported_at = clock_timestamp()
    WHERE (s.posted_on_zone, s.requests_per_minute, s.keep_ended)
          IS DISTINCT FROM (coalesce((SELECT name FROM known), s.posted_on_zone), $2, $3)
)
SELECT name FROM known;
