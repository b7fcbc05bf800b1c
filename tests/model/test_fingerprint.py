"""Fingerprints: another definition has another one, and every process finds the same."""

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from refold.model.fingerprint import fingerprint

BASE = """
from __future__ import annotations
import functools
from enum import Enum
from typing import Annotated, Any, Self
from msgspec import Struct, field
from refold import Event, Metadata, State, Tag, stored_as
from {package} import helpers

class Status(Enum):
    NEW = "new"
    PAID = "paid"

class Line(Struct, frozen=True):
    sku: str
    quantity: int = 1

class Old(Event):
    order_id: Annotated[str, Tag("order")]

@stored_as("Placed", version=2)
class Placed(Event):
    order_id: Annotated[str, Tag("order")]
    lines: tuple[Line, ...] = ()

def upcast(old: Old) -> Placed:
    return Placed(old.order_id)

RATE = 3
OPEN = frozenset({{"new", "paid", "sent", "back", "lost"}})
RATES = {{"tea": 1, "cup": 2}}

def price(line):
    return line.quantity * RATE

@functools.cache
def cached(sku):
    return RATES.get(sku, 0)

def by_default(sku, factor=2):
    return factor

class Rules:
    def holds(self, status):
        return status in {{"x", "y", "z", "new", "paid"}}

class Order(State):
    order_id: Annotated[str, Tag("order")]
    status: Status = Status.NEW
    lines: tuple[Line, ...] = ()
    total: int = 0
    words: frozenset[str] = frozenset({{"a", "b", "c", "d", "e"}})

    @property
    def is_open(self) -> bool:
        return self.status.value in OPEN

    @classmethod
    def named(cls) -> str:
        return "order"

    def _sum(self, lines):
        return sum(price(line) + cached(line.sku) + by_default(line.sku) for line in lines)

    def evolve(self, event: Placed, metadata: Metadata) -> Self:
        '''Fold.'''
        if event.order_id in ("1", "2") or Rules().holds("x") or metadata.actor in {{"q", "r", "s", "t", "u"}}:
            return self.replace(total=helpers.double(self._sum(event.lines)))
        return self.replace(total=(lambda x: x + 1)(self.total))
"""
HELPERS = """
LIMIT = 10
def double(x):
    return min(2 * x, LIMIT)
"""
SHOW = """
from shop.orders import Order, upcast
from refold.model.fingerprint import fingerprint
print(fingerprint(Order, [upcast]))
"""
_numbers = itertools.count()


def write(folder: Path, package: str, *changes: tuple[str, str]) -> None:
    """Write the definitions, with some texts replaced, as a package."""
    sources = {"orders": dedent(BASE).format(package=package), "helpers": HELPERS}
    for before, after in changes:
        assert any(before in source for source in sources.values()), before
        sources = {name: source.replace(before, after) for name, source in sources.items()}
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    for name, source in sources.items():
        (folder / package / f"{name}.py").write_text(source)


def found(folder: Path, *changes: tuple[str, str]) -> str:
    """Return the fingerprint of the definitions with some texts replaced."""
    package = f"shop{next(_numbers)}"
    write(folder, package, *changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        orders = importlib.import_module(f"{package}.orders")
        return fingerprint(orders.Order, [orders.upcast])


def test_every_process_finds_the_same(tmp_path: Path) -> None:
    write(tmp_path, "shop")
    results: set[str] = set()
    for seed in ("0", "1", "77"):
        paths = os.pathsep.join([str(Path.cwd()), str(tmp_path)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
        results.add(done.stdout)
    assert len(results) == 1


CHANGES = {
    "evolve": ('("1", "2")', '("1", "3")'),
    "a lambda in it": ("x + 1", "x + 2"),
    "a set of constants": ('"t", "u"}', '"t", "v"}'),
    "a method it calls": ("for line in lines)", "for line in lines[1:])"),
    "a function it uses": ("line.quantity * RATE", "line.quantity + RATE"),
    "a function that is cached": ("RATES.get(sku, 0)", "RATES.get(sku, 1)"),
    "a default of a function": ("factor=2", "factor=3"),
    "a constant": ("RATE = 3", "RATE = 4"),
    "a set that is a constant": ('"sent", "back"', '"sent", "lent"'),
    "a table": ('"cup": 2', '"cup": 3'),
    "a function of another module": ("2 * x", "3 * x"),
    "a constant of another module": ("LIMIT = 10", "LIMIT = 11"),
    "a method of a class that it uses": ('"z", "new"', '"z", "old"'),
    "a property": ("self.status.value in OPEN", "self.status.value not in OPEN"),
    "a class method": ('return "order"', 'return "Order"'),
    "a default": ("status: Status = Status.NEW", "status: Status = Status.PAID"),
    "the type of a field": ("total: int = 0", "total: float = 0"),
    "the name of a field": ("words: frozenset", "texts: frozenset"),
    "a value of an enum": ('PAID = "paid"', 'PAID = "Paid"'),
    "a struct in a field": ("quantity: int = 1", "quantity: int = 1\n    price: int = 0"),
    "an event": ("lines: tuple[Line, ...] = ()\n\ndef", "lines: list[Line] = field(default_factory=list)\n\ndef"),
    "how an event is stored": ('"Placed", version=2', '"Placed", version=3'),
    "an upcaster": ("return Placed(old.order_id)", "return Placed(old.order_id, ())"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_definition_has_another_fingerprint(tmp_path: Path, change: str) -> None:
    assert found(tmp_path, CHANGES[change]) != found(tmp_path)


@pytest.mark.parametrize(
    "change", [("import functools", "import functools, json"), ("\nRATE =", "\nUNUSED = 3\nRATE =")]
)
def test_what_is_not_used_does_not_count(tmp_path: Path, change: tuple[str, str]) -> None:
    assert found(tmp_path, change) == found(tmp_path)
