"""Notifications: what people are told by mail or chat, beside the signed webhooks."""
