"""The oracle: scenarios against the whole service, after which Postgres must equal Pluggy."""
