"""Shared parts of the tests: processes, stubs, proxies and small models."""
