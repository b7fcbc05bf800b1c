"""The log in SQLite keeps the contract: with several handles, through reopening, and in several processes."""

from functools import partial
from pathlib import Path
from typing import Any

from refold.store.sqlite import SqliteStore
from refold.testing import Failpoint, StoreContract, StoreFixture


async def open_sqlite(path: Path, *, before_commit: Failpoint | None = None, **options: Any) -> SqliteStore:
    store = await SqliteStore.open(path, **options)
    store.database.before_commit = before_commit and before_commit.block
    return store


class TestSqliteStore(StoreContract):
    def fixture(self, tmp_path: Path) -> StoreFixture:
        opener = partial(open_sqlite, tmp_path / "log.db")
        return StoreFixture(opener, handles=True, reopens=True, processes=True, clock=True, failpoint=True)
