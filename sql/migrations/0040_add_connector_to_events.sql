-- Which connector a connector/status_updated is about; such events have no item.
ALTER TABLE pluggy_sync.webhook_events ADD COLUMN connector_id integer;
