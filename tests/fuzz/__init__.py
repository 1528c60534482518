"""Hostile input by the hundred thousand, each told by its seed and number."""
