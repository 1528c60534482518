"""Faults on demand, and unusual shapes of data."""
