"""A second opinion on the mirror, which imports nothing of what it judges."""
