"""An independent comparison of the mirror with Pluggy; imports nothing of the worker."""
