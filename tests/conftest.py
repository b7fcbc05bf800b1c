"""What tests of several floors share."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from refold.runtime import causes, index
from refold.store.api import Store
from refold.store.memory import MemoryStore
from refold.testing.postgres import PostgresServer

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how long an example takes says how busy the machine is

Log: TypeAlias = str | Store
"""What apps are opened on."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a search, and a question for causes, time to look at all that there is, however busy the machine is."""
    for module, name in ((index, "LOOK_SECONDS"), (index, "GLANCE_SECONDS"), (causes, "SECONDS")):
        monkeypatch.setattr(module, name, 60.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a server for those tests that need one."""
    with PostgresServer(durable=False) as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes a log in memory and on SQLite; in modules that say so, on PostgreSQL too."""
    if "log" in metafunc.fixturenames:
        databases = ["memory", "sqlite", *(["postgres"] if getattr(metafunc.module, "ON_POSTGRES", False) else [])]
        metafunc.parametrize("log", databases, indirect=True)


@pytest.fixture
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """Return what to open an app on, or several that share a log."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.url(blake2b(str(tmp_path).encode(), digest_size=8).hexdigest())
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"
