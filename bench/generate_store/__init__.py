"""Generates worker/store: each statement of sql/queries as a function, typed by Postgres itself."""
