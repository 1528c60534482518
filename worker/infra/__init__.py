"""Infrastructure that knows no Pluggy: settings, logs, metrics, Postgres, Redis, HTTP server."""
