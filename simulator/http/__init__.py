"""Pluggy's HTTP side: endpoints, keys, limits, and the control calls."""
