"""The log in a SQLite file: the default, and the one to begin with."""

from refold.store.sqlite.log import SqliteStore

__all__ = ["SqliteStore"]
