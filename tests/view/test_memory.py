"""The rows in memory keep the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from refold.store.memory import MemoryStore
from refold.testing.view_contract import ViewContract
from refold.view.api import Views
from refold.view.open import open_views


class TestMemoryViews(ViewContract):
    durable = False

    @cached_property
    def log(self) -> MemoryStore:
        return MemoryStore()

    @asynccontextmanager
    async def beside(self, tmp_path: Path) -> AsyncGenerator[tuple[MemoryStore, Views]]:
        yield self.log, open_views(self.log)
