"""The webhook receiver: authenticates, parses, stores and answers deliveries."""
