"""`refold contract check --against`: exit codes, and what people and programs are shown."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold import NewEvent, open_store
from refold.cli import main

CODE = """
from typing import Annotated, Self
from refold import App, Event, State, Tag, stored_as

@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: Annotated[str, Tag("order")]

@stored_as("OrderPlaced", version=2)
class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    total: int

def priced(old: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(old.order_id, 0)

class Order(State):
    order_id: Annotated[str, Tag("order")]
    total: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        if event.total < 0:
            raise ValueError(event.total)
        return self.replace(total=event.total)

def app(store):
    return App(store, events=OrderPlaced, upcasters=[priced], projections=[Order])
"""


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "history_shop", raising=False)
    (tmp_path / "history_shop.py").write_text(CODE)
    append(
        url := f"sqlite:///{tmp_path}/log.db", placed(1, b'{"order_id":"a"}'), placed(2, b'{"order_id":"a","total":5}')
    )
    return url


def placed(version: int, data: bytes) -> NewEvent:
    return NewEvent("OrderPlaced", data, ("order:a",), version)


def append(url: str, *events: NewEvent) -> None:
    async def work() -> None:
        store = await open_store(url)
        await store.append(events)
        await store.close()

    asyncio.run(work())


def refold(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["contract", "check", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_log_that_can_be_read_passes(filled: str) -> None:
    lines = refold("history_shop:app", "--against", filled).output.splitlines()
    assert lines == [
        "type\tversion\tbecomes\tevents\tdecoded\tfailed",
        "OrderPlaced\t1\tOrderPlaced\t1\t1\t0",
        "OrderPlaced\t2\tOrderPlaced\t1\t1\t0",
        "state\tkeys\tevents\tfailed",
        "Order\t1\t2\t0",
        "readable: every event that was looked at, and every state",
    ]
    assert (
        refold("history_shop:app", "--against", filled, "--sample", "1", "--keys", "1", "--workers", "2").exit_code == 0
    )


def test_what_fails_is_shown_and_exits_with_1(filled: str) -> None:
    append(filled, placed(3, b"\x1b[31m"), placed(2, b'{"order_id":"a","total":-1}'), NewEvent("Gone"))
    output = refold("history_shop:app", "--against", filled, code=1).output
    assert "✗ position 3, OrderPlaced version 3: it cannot be read\n" in output
    assert "is a OrderPlaced version 3, but this program knows version 1, 2" in output
    assert "    data \\x1b[31m\n" in output
    assert "    todo keep its class, `@stored_as('OrderPlaced', version=3)`, with an upcaster" in output
    assert "✗ position 4, OrderPlaced version 2: Order order:a\n    ValueError(-1)\n" in output
    assert "Gone\t1\t?\t1\t1\t1\n" in output
    assert output.endswith("unreadable: 3 failures\n")
    found = json.loads(refold("history_shop:app", "--against", filled, "--json", code=1).output)
    assert [each["position"] for each in found["failures"]] == [3, 4, 5]
    assert found["failed"] == 3


def test_wrong_usage_exits_with_2(filled: str) -> None:
    assert (
        "are of a check --against a log" in refold("history_shop:app", "--store", filled, "--keys", "5", code=2).output
    )
    assert (
        "the module history_shop has no 'nothing'" in refold("history_shop:nothing", "--against", filled, code=2).output
    )
    assert (
        "Invalid value for '--workers'"
        in refold("history_shop:app", "--against", filled, "--workers", "0", code=2).output
    )


def test_a_log_that_is_not_there_is_told(filled: str, tmp_path: Path) -> None:
    assert "error" in refold("history_shop:app", "--against", f"sqlite:///{tmp_path}/none.db", code=1).output
    assert not (tmp_path / "none.db").exists()
