"""The rows in memory keep the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from refold.testing.view_contract import ViewContract
from refold.view.memory import MemoryViews


class TestMemoryViews(ViewContract):
    durable = False

    @cached_property
    def kept(self) -> MemoryViews:
        return MemoryViews()

    @asynccontextmanager
    async def views(self, tmp_path: Path) -> AsyncGenerator[MemoryViews]:
        yield self.kept
