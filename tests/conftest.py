"""What tests of several floors share."""

from pathlib import Path
from typing import TypeAlias

import pytest

from refold.store.api import Store
from refold.store.memory import MemoryStore

Log: TypeAlias = str | Store
"""What apps are opened on."""


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """Return what to open an app on, or several that share a log."""
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"
