"""Pluggy's API over HTTP: client, endpoints, rate limit, errors, and values of its JSON."""
