"""Faults planted on purpose: each patch breaks one promise, and the test it names has to fail."""
