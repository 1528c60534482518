"""Pluggy's API over HTTP: client, endpoints, rate limit, circuit breaker, errors and values."""
