"""Settings, log, metrics, Postgres, Redis, an HTTP server: nothing here knows Pluggy."""
