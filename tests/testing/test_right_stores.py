"""The contract asks for nothing that only the log in memory does: two other right stores keep it too."""

from functools import partial
from pathlib import Path

from refold.testing import StoreContract, StoreFixture
from tests.testing.right_stores import FileStore, GappedStore


class TestGappedStore(StoreContract):
    def fixture(self, tmp_path: Path) -> StoreFixture:
        return StoreFixture(GappedStore, clock=True, gaps=True)


class TestFileStore(StoreContract):
    def fixture(self, tmp_path: Path) -> StoreFixture:
        opener = partial(FileStore, tmp_path / "log")
        return StoreFixture(
            opener, handles=True, reopens=True, processes=True, clock=True, failpoint=True, patience=100
        )
