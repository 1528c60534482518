"""`pluggy-sync doctor`: checks of settings, Postgres, Redis, Pluggy and the webhook."""
