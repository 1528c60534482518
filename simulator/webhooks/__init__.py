"""Subscriptions, bodies and deliveries of webhooks."""
