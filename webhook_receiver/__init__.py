"""The door: authenticates, parses, accepts and answers webhooks."""
