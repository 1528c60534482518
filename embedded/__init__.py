"""Postgres and Valkey for demo, tests and trials, started from wheels or from what is installed."""
