"""Chaos: real processes under load while everything around them fails, judged by a ledger."""
