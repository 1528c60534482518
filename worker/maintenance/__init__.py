"""Periodic work beside the items: sweep, reconciliation, purge, retention, reference data."""
