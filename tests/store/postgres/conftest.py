"""One real PostgreSQL for the tests of this folder; where it cannot start, they fail."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from refold.testing.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A server that does not wait for the disk: for everything but what is about the disk."""
    with PostgresServer(durable=False) as started:
        yield started


@pytest.fixture
def url(server: PostgresServer, tmp_path: Path) -> str:
    """The address of a log of the test's own."""
    return server.url(blake2b(str(tmp_path).encode(), digest_size=8).hexdigest())
