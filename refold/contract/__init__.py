"""Contracts: what an app stores, takes and publishes, written down, compared, and told to others."""
