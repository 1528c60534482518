-- What Pluggy lists for all: the institutions that can be connected, and the tree of categories.

CREATE VIEW pluggy_live.connectors AS
SELECT id, name, type, country, institution_url, image_url, primary_color, has_mfa, oauth,
       is_open_finance, is_sandbox, health_status, health_stage, products, source_created_at,
       source_updated_at, payload, run_id, first_seen_at, changed_at
FROM pluggy.connectors
WHERE deleted_at IS NULL;

CREATE VIEW pluggy_live.categories AS
SELECT id, description, description_translated, parent_id, parent_description, payload, run_id,
       first_seen_at, changed_at
FROM pluggy.categories
WHERE deleted_at IS NULL;
