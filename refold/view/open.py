"""From a store to the views that live beside it."""

from refold.errors import MissingCapability
from refold.store.api import Capability, Store
from refold.store.memory import MemoryStore
from refold.view.api import Views


def open_views(store: Store) -> Views:
    """Return the views in the same database as a log; raise `MissingCapability` if it cannot hold any."""
    if isinstance(store, MemoryStore):
        from refold.view.memory import MemoryViews

        return MemoryViews()
    if Capability.VIEWS in store.capabilities:
        from refold.store.sqlite import SqliteStore

        if isinstance(store, SqliteStore):
            from refold.view.sqlite import SqliteViews

            return SqliteViews(store.database)
    raise MissingCapability(f"{type(store).__name__} cannot hold views, so it cannot keep projections or processes")
