"""Outgoing webhooks: endpoints, deliveries, and a POST that cannot reach into the private network."""
