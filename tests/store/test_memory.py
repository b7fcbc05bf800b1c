"""The log in memory keeps the contract."""

from pathlib import Path

from refold.store.memory import MemoryStore
from refold.testing import StoreContract, StoreFixture


class TestMemoryStore(StoreContract):
    def fixture(self, tmp_path: Path) -> StoreFixture:
        return StoreFixture(MemoryStore, clock=True)
