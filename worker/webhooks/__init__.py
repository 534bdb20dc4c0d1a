"""Webhooks that go out: endpoints, deliveries, and a POST that cannot be turned against this side."""
