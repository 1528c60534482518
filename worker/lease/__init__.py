"""The lease on an item, the record of its runs and reads, halts and parked products."""
