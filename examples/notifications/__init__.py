"""Notifications: a context of its own, which writes to customers about what the shop publishes."""
