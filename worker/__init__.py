"""The engine: reads what Pluggy holds and keeps Postgres equal to it."""
