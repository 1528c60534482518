"""Hostile input by the hundred thousand, each found again by its seed and number."""
