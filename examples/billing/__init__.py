"""Billing: a context of its own, which invoices what the shop has shipped; begin with accounts.py."""
