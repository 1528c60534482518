"""Tests of leases, settlement, runs and wake-ups."""
