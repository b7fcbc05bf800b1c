"""From a store to the views that live beside it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from refold.errors import MissingCapability
from refold.store.api import Capability, Store
from refold.store.memory import MemoryStore
from refold.store.open import check_url
from refold.view.api import Views
from refold.view.memory import MemoryViews

_IN_MEMORY: WeakKeyDictionary[MemoryStore, MemoryViews] = WeakKeyDictionary()
"""The views live as long as the log in memory, whoever opens them."""


def open_views(store: Store) -> Views:
    """Return the views in the same database as a log; raise `MissingCapability` if it cannot hold any."""
    if isinstance(store, MemoryStore):
        return _IN_MEMORY.setdefault(store, MemoryViews(store))
    if Capability.VIEWS in store.capabilities:
        from refold.store.sqlite import SqliteStore

        if isinstance(store, SqliteStore):
            from refold.view.sqlite import SqliteViews

            return SqliteViews.beside(store)
        if type(store).__module__.startswith("refold.store.postgres."):  # so that its driver is not imported for others
            from refold.store.postgres import PostgresStore
            from refold.view.postgres import PostgresViews

            assert isinstance(store, PostgresStore)
            return PostgresViews.beside(store)
    raise MissingCapability(f"{type(store).__name__} cannot hold views, so it cannot keep projections or processes")


async def open_views_at(url: str) -> Views:
    """Open kept rows in a database of their own, at an address like a store's; whoever opens them closes them."""
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryViews()
    if parts.scheme == "sqlite":
        from refold.store.sqlite.database import Database
        from refold.view.sqlite import SqliteViews

        return SqliteViews(Database(Path(unquote(parts.path[1:]))), own=True)
    from refold.view.postgres import PostgresViews

    return await PostgresViews.open(url)
