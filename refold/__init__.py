"""Refold: record what happened, and refold it into any view, at any time."""

__version__ = "0.1.0"
