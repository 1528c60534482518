"""Tests that take long or need programs other than Python."""
