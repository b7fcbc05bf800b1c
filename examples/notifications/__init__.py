"""Notifications: a context of its own, which writes to the shop's customers; begin with mails.py."""
