"""The worker: reads changes from Pluggy and keeps the mirror in Postgres equal to it."""
