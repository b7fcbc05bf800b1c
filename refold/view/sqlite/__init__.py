"""Kept rows in a SQLite file."""

from refold.view.sqlite.views import SqliteViews

__all__ = ["SqliteViews"]
