"""The lease on an item, the record of its runs and progress, halts and parked products."""
