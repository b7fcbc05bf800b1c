"""A log with a few orders in it, and a way to call `refold` on it."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli import main
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore
from refold.testing.clock import Clock

Refold = Callable[..., Result]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = tmp_path / "shop.db"

    async def fill() -> None:
        clock = Clock(NOON)
        log = await SqliteStore.open(path, clock=clock)
        for day, (kind, order) in enumerate([("Placed", "o-1"), ("Placed", "o-2"), ("Paid", "o-1")], 1):
            data = b'{"order_id":"%s","total":%d}' % (order.encode(), day * 100)
            await log.append([NewEvent(f"Order{kind}", data, (f"order:{order}",))])
            clock.set(NOON.replace(day=1 + day))
        await log.append([NewEvent("Odd", b"\x00\xff", ("odd:\x1b[31mred",))])
        await log.close()

    asyncio.run(fill())
    return f"sqlite:///{path}"


@pytest.fixture
def refold(store: str, monkeypatch: pytest.MonkeyPatch) -> Refold:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
        return CliRunner().invoke(main, arguments, env={"REFOLD_STORE": store, **(env or {})})

    return call
