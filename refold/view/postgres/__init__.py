"""Kept rows in PostgreSQL, in columns of real types that other tools can read."""

from refold.view.postgres.views import PostgresViews

__all__ = ["PostgresViews"]
