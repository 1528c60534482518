"""The durable inbox of announced events: events, accept, spool, drain."""
