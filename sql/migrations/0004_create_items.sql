-- Connections of a person or a company to an institution.
CREATE TABLE pluggy.items (
    id uuid PRIMARY KEY,
    connector_id integer,
    connector_name text,
    connector_is_open_finance boolean,
    status text,
    execution_status text,
    error_code text,
    client_user_id text,
    products text[],
    source_created_at timestamptz,
    source_updated_at timestamptz,
    last_updated_at timestamptz,
    next_auto_sync_at timestamptz,
    consent_expires_at timestamptz,
    has_resources_pending_authorization boolean,
    inner_item_id uuid,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    ended_at timestamptz
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.items IS 'One connection to an institution; everything else belongs to one';
COMMENT ON COLUMN pluggy.items.client_user_id IS
    'clientUserId: the client''s own name of the user; personal data';
COMMENT ON COLUMN pluggy.items.last_updated_at IS
    'lastUpdatedAt: when Pluggy last collected from the institution';
COMMENT ON COLUMN pluggy.items.next_auto_sync_at IS
    'nextAutoSyncAt: when Pluggy collects next by itself; null: it does not';
COMMENT ON COLUMN pluggy.items.inner_item_id IS
    'MeuPluggy: the item behind this one, which rows may name as theirs; null: none has';
COMMENT ON COLUMN pluggy.items.ended_at IS
    'Deleted by Pluggy after its connector was withdrawn: its rows are kept; null: not so';

CREATE INDEX items_run ON pluggy.items (run_id);
-- The connectors that items have are listed by skipping from one id to the next.
CREATE INDEX items_connector ON pluggy.items (connector_id);
CREATE INDEX items_deleted ON pluggy.items (deleted_at) WHERE deleted_at IS NOT NULL;
-- What operators are told of, among many items that are well (pluggy_sync.items_not_fresh).
CREATE INDEX items_not_well ON pluggy.items (id)
    WHERE deleted_at IS NULL
      AND (status IS DISTINCT FROM 'UPDATED' OR execution_status = 'USER_AUTHORIZATION_REVOKED'
           OR next_auto_sync_at IS NULL OR has_resources_pending_authorization
           OR payload -> 'statusDetail' <> 'null');
CREATE INDEX items_status_detail ON pluggy.items (id) WHERE payload -> 'statusDetail' <> 'null';
CREATE INDEX items_next_auto_sync ON pluggy.items (next_auto_sync_at);
CREATE INDEX items_consent_expires ON pluggy.items (consent_expires_at);
-- How few items have one, so that Postgres plans for few.
CREATE STATISTICS pluggy.items_status_detail ON (payload -> 'statusDetail') FROM pluggy.items;
