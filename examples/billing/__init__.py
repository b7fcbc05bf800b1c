"""Billing: a context of its own, which knows of the shop what the shop publishes, and nothing else."""
