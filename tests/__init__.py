"""Tests by fact, flat, against real servers."""
