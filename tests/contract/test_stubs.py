"""Stubs are whole programs without us: compilers take them, refuse wrong uses, and they read what an outbox sends."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from refold import App, Event, Metadata, stored_as
from refold.bus.memory import MemoryBus
from refold.contract.describe import Published, event_forms
from refold.contract.python_stubs import python_stubs
from refold.contract.typescript_stubs import typescript_stubs
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.runtime.envelope import packed
from refold.testing.strategies import events_of
from tests.contract.consuming import RIGHT_PYTHON, RIGHT_TYPESCRIPT, RUN_TYPESCRIPT, WRONG_PYTHON
from tests.contract.node import MODULES, node, packages
from tests.contract.telling import PUBLISHED, Card, Colour, Line, OrderPlaced, Replied, make_app

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOW = settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
TSC = (
    "--strict",
    "--noUnusedLocals",
    "--noUnusedParameters",
    "--exactOptionalPropertyTypes",
    "--noUncheckedIndexedAccess",
)


def published_by(app: App) -> Published:
    found = app.contract().published
    assert found is not None
    return found


def loaded(text: str, path: Path) -> ModuleType:
    path.write_text(text)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return loaded(python_stubs(published_by(make_app())), tmp_path_factory.mktemp("python") / "published.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a program in TypeScript, compiled as strictly as can be."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "published.ts").write_text(typescript_stubs(published_by(make_app())))
    (folder / "use.ts").write_text(RIGHT_TYPESCRIPT)
    (folder / "run.js").write_text(RUN_TYPESCRIPT)
    done = tsc(folder, "published.ts", "use.ts")
    assert done.returncode == 0, done.stdout.decode()
    return folder


def tsc(folder: Path, *files: str) -> subprocess.CompletedProcess[bytes]:
    packages()
    target = ("--target", "es2022", "--module", "nodenext", "--types", "")
    return node(MODULES / "typescript" / "bin" / "tsc", *TSC, *target, *files, cwd=folder)


def message(event: Event, **metadata: Any) -> bytes:
    """Return what an outbox sends of an event."""
    new = Schema([type(event)], own=False).encode(event)
    stored = StoredEvent(7, NOON, new.type, new.version, new.tags, new.data, b"")
    said = Metadata(event_id="e-7", occurred_at=NOON, correlation_id="story", **metadata)
    return packed("shop", "e-7", new.type, new.version, new.data, new.tags, stored, said).body


def read_by(folder: Path, *messages: bytes) -> list[dict[str, Any]]:
    done = node("run.js", cwd=folder, given=b"\n".join(messages))
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line, parse_int=float) for line in done.stdout.splitlines()]  # JavaScript knows no other


def same(read: Any, written: Any) -> bool:
    """Tell whether what a stub reads is what was written."""
    if isinstance(written, Struct):
        values = zip(dataclasses.fields(read), written.__struct_fields__, strict=True)
        return all(same(getattr(read, one.name), getattr(written, other)) for one, other in values)
    if isinstance(written, Enum):
        return bool(read.value == written.value)
    if isinstance(written, frozenset | set):
        return set(read) == written and len(read) == len(written)
    if isinstance(written, tuple | list):
        return len(read) == len(written) and all(map(same, read, written))
    return bool(read == written) and (type(read) is type(written) or written is None)


# Python


def test_python_reads_what_an_outbox_sent(stubs: ModuleType) -> None:
    asyncio.run(_read_all(stubs))


async def _read_all(stubs: ModuleType) -> None:
    bus = MemoryBus()
    placed = OrderPlaced("o-1", (Line("tea", 2),), Card("4711"), Decimal("9.90"), NOON, colour=Colour.LIGHT_BLUE)
    async with make_app(bus=bus) as app:
        await app.record(placed, Replied("o-1", Replied("o-0")))
        receiver = await bus.receive("shop", "billing")
        messages: list[Any] = []
        while len(messages) < 2:
            messages += await receiver.take(10, 5)
    first, second = (stubs.receive(each.body) for each in messages)
    assert isinstance(first.event, stubs.OrderPlaced)
    assert same(first.event, placed)
    assert (first.type, first.source, first.subject) == ("OrderPlaced.v2", "shop", "order:o-1")
    assert first.id == messages[0].id
    assert first.time.utcoffset() is not None
    assert second.event == stubs.Replied("o-1", stubs.Replied("o-0", None))


@SLOW
@given(data=st.data())
def test_python_reads_whatever_can_be_published(stubs: ModuleType, data: st.DataObject) -> None:
    event = data.draw(events_of(data.draw(st.sampled_from(PUBLISHED))))
    received = stubs.receive(message(event, actor="ann"))
    assert same(received.event, event)
    assert (received.id, received.time, received.sequence, received.correlation_id, received.actor) == (
        ("e-7", NOON, "7", "story", "ann")
    )


def test_python_tells_what_it_does_not_know(stubs: ModuleType) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "shop", "type": "OrderLost.v1", "data": {"a": 1}})
    with pytest.raises(stubs.UnknownEvent, match=r"there is no event 'OrderLost.v1' in this contract") as caught:
        stubs.parse(body)
    assert (caught.value.type, caught.value.message["data"]) == ("OrderLost.v1", {"a": 1})


def changed(path: str, value: Any) -> bytes:
    right = json.loads(message(OrderPlaced("o-1", (Line("tea", 2),), Card("1"), Decimal(1), NOON)))
    *folders, name = path.split(".")
    at: Any = right
    for each in folders:
        at = at[int(each)] if each.isdecimal() else at[each]
    if value is None:
        del at[name]
    else:
        at[name] = value
    return json.dumps(right).encode()


WRONG = [
    ("data.total", 9.9, "total"),
    ("data.total", "much", "total"),
    ("data.total", None, "total"),
    ("data.lines", {}, "lines"),
    ("data.lines.0.quantity", True, "quantity"),
    ("data.lines.0.quantity", 1.5, "quantity"),
    ("data.lines.0.sku", None, "sku"),
    ("data.paid_by.type", "cheque", "paid_by"),
    ("data.placed_at", "yesterday", "placed_at"),
    ("data.colour", "green", "colour"),
    ("data.size", True, "size"),
    ("data.how", "letter", "how"),
    ("data.where", [1, 2, "x"][2:], "where"),
    ("data.pair", [1], "pair"),
    ("data.seal", "#", "seal"),
    ("data.reference", "no", "reference"),
    ("data.within", "soon", "within"),
    ("data.notes", {"a": 1}, "notes"),
    ("data.gift", 0, "gift"),
    ("data.labels", ["a", 1], "labels"),
    ("data", [], "data"),
    ("id", None, "id"),
    ("specversion", "0.3", "1.0"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG)
def test_python_refuses_what_the_contract_does_not_say(stubs: ModuleType, path: str, value: Any, said: str) -> None:
    with pytest.raises(stubs.MalformedMessage, match=said):
        stubs.parse(changed(path, value))


@SLOW
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "id", "lines", "to"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["OrderPlaced.v2", "Replied.v1", "OrderNoted.v1", "Other.v1"]),
)
def test_python_raises_only_what_it_says(stubs: ModuleType, content: Any, type: str) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": type, "data": content})
    for each in (body.encode(), json.dumps(content).encode(), body.encode()[:-3], b"\xff" + body.encode()):
        with suppress(stubs.MalformedMessage, stubs.UnknownEvent):
            stubs.parse(each)


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_take_right_uses_and_refuse_wrong_ones(tmp_path: Path, checker: str) -> None:
    text = python_stubs(published_by(make_app()))
    [hostile] = [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("class script_")]
    (tmp_path / "published.py").write_text(text)
    (tmp_path / "right.py").write_text(RIGHT_PYTHON.replace("Hostile", hostile))
    (tmp_path / "wrong.py").write_text(WRONG_PYTHON)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "include": ["."]}')
    done = subprocess.run(
        [sys.executable, "-m", checker, *(["--strict", "--config-file="] if checker == "mypy" else []), "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error" in line or " - error" in line]
    lines = {int(line.partition("wrong.py:")[2].partition(":")[0]) for line in errors if "wrong.py:" in line}
    assert [line for line in errors if "wrong.py:" not in line] == [], done.stdout
    assert {5, 7, 8, 9} <= lines, done.stdout


# TypeScript


def test_typescript_reads_what_an_outbox_sends(compiled: Path) -> None:
    placed = OrderPlaced("o-1", (Line("tea", 2),), Card("4711"), Decimal("9.90"), NOON)
    [first, second] = read_by(compiled, message(placed), message(Replied("o-1", Replied("o-0"))))
    assert first["said"] == "e-7"
    assert first["message"]["type"] == "OrderPlaced.v2"
    assert first["message"]["time"] == "2026-03-01T12:00:00Z"
    assert first["message"]["data"]["total"] == "9.90"
    assert first["message"]["data"]["paid_by"] == {"type": "card", "number": "4711"}
    assert second["message"]["data"] == {"order_id": "o-1", "to": {"order_id": "o-0", "to": None}}


@settings(max_examples=20, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.sampled_from(PUBLISHED).flatmap(events_of), min_size=1, max_size=3))
def test_typescript_reads_whatever_can_be_published(compiled: Path, events: list[Event]) -> None:
    messages = [message(event) for event in events]
    for read, body, event in zip(read_by(compiled, *messages), messages, events, strict=True):
        data = json.loads(body, parse_int=float)["data"]
        if _has_large(json.loads(body)):
            assert "message" in read or "a whole number below 2^53" in read["said"] or "null" in read["said"]
            continue
        assert read["said"] == "e-7", (read, event)
        if isinstance(event, OrderPlaced) and event.where is not None:
            data["where"] = structs.asdict(event.where)
        assert read["message"]["data"] == data


def _has_large(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_large, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and abs(value) >= 2**53


def test_typescript_tells_what_is_unknown_and_what_is_wrong(compiled: Path) -> None:
    unknown = json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "toString", "data": {}}).encode()
    bodies = [changed(path, value) for path, value, _ in WRONG]
    first, large, *others = read_by(compiled, unknown, changed("data.lines.0.quantity", 2**53), *bodies, b"nothing")
    assert first == {"said": "unknown toString 1"}
    assert "data.lines[0].quantity should be a whole number below 2^53" in large["said"]
    for (_, _, said), other in zip([*WRONG, ("", "", "no JSON")], others, strict=True):
        assert other["said"].startswith("malformed ")
        assert said in other["said"]


def test_a_wrong_use_does_not_compile(tmp_path: Path) -> None:
    """What is marked as wrong in the program that compiles must be: without the marks it does not."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "published.ts").write_text(typescript_stubs(published_by(make_app())))
    (tmp_path / "use.ts").write_text(RIGHT_TYPESCRIPT.replace("// @ts-expect-error", "//"))
    done = tsc(tmp_path, "use.ts")
    assert done.returncode != 0
    assert done.stdout.count(b"use.ts") == 6, done.stdout.decode()


# Names


@stored_as("OrderPlaced")
class OldPlaced(Event):
    total: int


@stored_as("OrderPlaced", version=2)
class NewPlaced(Event):
    total: Decimal


@stored_as("class")
class Keyword(Event):
    type: str
    datetime: datetime
    Decimal: Decimal
    _private: int
    import_: int


@stored_as("Decimal")
class Shadow(Event):
    pass


@stored_as("été 1")
class Foreign(Event):
    pass


def test_names_are_those_of_the_newest_and_collide_with_nothing(tmp_path: Path) -> None:
    kinds = [OldPlaced, NewPlaced, Shadow, Foreign, Keyword]
    published = Published("shop", event_forms(Schema(kinds, own=False)))
    module = loaded(python_stubs(published), tmp_path / "named.py")
    assert module.OrderPlacedV1.__annotations__ == {"total": "int"}
    assert module.OrderPlaced.__annotations__ == {"total": "Decimal"}
    assert module.parse(message(Shadow())) == module.Decimal_()
    assert module.Decimal is Decimal
    assert type(module.parse(message(Foreign()))).__name__ == "t_1"
    event = module.parse(message(Keyword("t", NOON, Decimal(1), 2, 3)))
    assert type(event).__name__ == "class_"
    assert (event.datetime_, event.Decimal_, event.private, event.import_) == (NOON, Decimal(1), 2, 3)
    (tmp_path / "named.ts").write_text(typescript_stubs(published))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = tsc(tmp_path, "named.ts")
    assert done.returncode == 0, done.stdout.decode()
