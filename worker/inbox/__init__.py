"""The durable inbox of events: parse, accept into Postgres, spool during an outage, drain."""
