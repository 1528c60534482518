-- Connectors that Pluggy no longer offers. Only our own reads of Pluggy's list and of the connector write
-- here: an event, which may be forged, never does.
CREATE TABLE pluggy_sync.withdrawn_connectors (
    connector_id integer PRIMARY KEY,
    unlisted_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    run_id bigint NOT NULL
);

COMMENT ON TABLE pluggy_sync.withdrawn_connectors IS
    'Connectors that Pluggy no longer lists; a row goes when the connector is listed again';
COMMENT ON COLUMN pluggy_sync.withdrawn_connectors.unlisted_at IS
    'When a complete list first omitted it and it was asked for by id';
COMMENT ON COLUMN pluggy_sync.withdrawn_connectors.withdrawn_at IS
    'When it first answered 404 by id too; null: it still answers by id';
