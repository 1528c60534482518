"""Shared by tests: processes, stubs, proxies and small models."""
