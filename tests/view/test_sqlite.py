"""The rows in SQLite keep the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from refold.store.sqlite import SqliteStore
from refold.testing.view_contract import ViewContract
from refold.view.sqlite import SqliteViews


class TestSqliteViews(ViewContract):
    @asynccontextmanager
    async def views(self, tmp_path: Path) -> AsyncGenerator[SqliteViews]:
        store = await SqliteStore.open(tmp_path / "log.db")
        try:
            yield SqliteViews(store.database)
        finally:
            await store.close()
