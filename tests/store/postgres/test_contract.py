"""The log in PostgreSQL keeps the contract: with several handles, through reopening, and in several processes."""

from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from refold.store.postgres import PostgresStore
from refold.testing import Failpoint, StoreContract, StoreFixture
from refold.testing.postgres import PostgresServer


async def open_postgres(url: str, *, before_commit: Failpoint | None = None, **options: Any) -> PostgresStore:
    return await PostgresStore.open(url, before_commit=before_commit and before_commit.pause, **options)


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, server: PostgresServer) -> None:
        self.server = server

    def fixture(self, tmp_path: Path) -> StoreFixture:
        schema = blake2b(str(tmp_path).encode(), digest_size=8).hexdigest()
        opener = partial(open_postgres, self.server.url(schema))
        return StoreFixture(opener, handles=True, reopens=True, processes=True, clock=True, failpoint=True)
