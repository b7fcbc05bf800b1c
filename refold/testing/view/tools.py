"""What the rules of kept rows share: states with fields of every kind, their tables, and values to put in them."""

import asyncio
import operator
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from refold.model.message import Event
from refold.model.state import Singleton, State
from refold.model.tag import Tag
from refold.store.api import Store
from refold.view.api import Expect, Put, Views
from refold.view.find import COMPARES, find_of
from refold.view.table import Indexed, Searched, Table, dated, table_of

PATIENCE = 60.0
"""Seconds after which a rule that hangs has failed."""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class ViewRules(ABC):
    """What all rules have at hand."""

    keeps_notation = True
    """Whether `1E+6` comes back as it was written, and a dict in its order; they come back equal in any case."""

    durable = True
    """Whether the rows are there when they are opened again after everyone has closed them."""

    @abstractmethod
    def beside(self, tmp_path: Path) -> AbstractAsyncContextManager[tuple[Store, Views]]:
        """Open the log that belongs to `tmp_path`, and the views beside it."""

    @asynccontextmanager
    async def views(self, tmp_path: Path) -> AsyncGenerator[Views]:
        """Open the views alone."""
        async with self.beside(tmp_path) as (_, views):
            yield views


class Color(Enum):
    """An enum of texts."""

    RED = "red"
    DARK_RED = "Red"
    BLUE = "blue"


class Size(Enum):
    """An enum of numbers."""

    SMALL = 1
    LARGE = 20


class Part(Struct, frozen=True):
    """Something nested."""

    name: str
    count: int = 0
    price: Decimal | None = None


ThingId: TypeAlias = Annotated[str, Tag("thing")]
Number: TypeAlias = Annotated[int, Tag("number")]
Day: TypeAlias = Annotated[date, Tag("day")]
Shade: TypeAlias = Annotated[Color, Tag("shade")]
Serial: TypeAlias = Annotated[UUID, Tag("serial")]


class Noted(Event):
    """What the kept states of the contract are made of."""

    thing_id: ThingId
    number: Number
    day: Day
    shade: Shade
    serial: Serial


class Thing(State):
    """A state with a field of every kind."""

    thing_id: ThingId
    text: str | None = None
    integer: int | None = None
    real: float | None = None
    price: Decimal | None = None
    at: datetime | None = None
    day: date | None = None
    serial: UUID | None = None
    flag: bool | None = None
    color: Color | None = None
    size: Size | None = None
    level: Literal["low", "high"] | None = None
    raw: bytes | None = None
    parts: tuple[Part, ...] = ()
    notes: dict[str, list[int]] = msgspec.field(default_factory=dict[str, list[int]])
    words: frozenset[str] = frozenset()

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Combined(State):
    """A state with a key of several fields."""

    thing_id: ThingId
    number: Number
    day: Day
    shade: Shade
    serial: Serial
    text: str = ""

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Text(State):
    """Something to be searched."""

    thing_id: ThingId
    title: Annotated[str, Searched(weight=4)] = ""
    body: Annotated[str | None, Searched()] = None
    shelf: Annotated[int, Indexed()] = 0

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Mark(Struct, frozen=True):
    """How far something has come."""

    name: str
    position: int


class Only(Singleton):
    """A state without a key."""

    total: int = 0

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


THING = table_of(Thing, "Thing", ["thing_id"], version="one", indexes=[("color", "integer")])
OTHER = table_of(Thing, "Thing", ["thing_id"], version="two")
COMBINED = table_of(Combined, "Combined", ["thing_id", "number", "day", "shade", "serial"], version="one")
ONLY = table_of(Only, "Only", [], version="one")
TEXT = table_of(Text, "Text", ["thing_id"], version="one")
DATED = dated(OTHER)
MARKS = table_of(Mark, "_mark", ["name"])
TEXTS = ("", "a", "A", "ä", "a ", "O'Brien", '"', "%", "日本", "\U0001f600", "\uffff", "null", "1", "a\nb", "[1]", "é")
LARGE = 2**63 - 1
Body: TypeAlias = Callable[[Any, Views], Coroutine[Any, Any, None]]


def rule(body: Body) -> Callable[[Any, Path], None]:
    """Make a test of a coroutine that takes open views."""

    def test(self: Any, tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(PATIENCE), self.views(tmp_path) as views:
                await body(self, views)

        asyncio.run(run())

    # Not functools.wraps: pytest would follow it, and ask for a fixture named views.
    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


async def keep(views: Views, table: Table, *rows: State, before: int = 0, after: int | None = None) -> bool:
    """Put rows together with a mark that says how far they have come, if it stands at `before`."""
    name = (table.name,)
    expect = Expect(MARKS, name, {"position": before} if before else None)
    mark = Put(MARKS, [Mark(table.name, before + 1 if after is None else after)])
    return await views.write([Put(table, rows), mark], [expect])


async def marked(views: Views, table: Table) -> int:
    """Return how far the rows of a table have come."""
    found = await views.get(MARKS, [(table.name,)])
    return found[table.name,].position if found else 0


async def everything(views: Views, table: Table) -> list[State]:
    """Return all rows, by key."""
    return await views.find(table, find_of(table, None, (), None, 0))


def fields(state: State) -> list[object]:
    """Return the values of a state's fields."""
    return [getattr(state, name) for name in state.__struct_fields__]


CHOICES: dict[str, Sequence[Any]] = {
    "text": TEXTS,
    "integer": (0, 1, -1, 10, 9, LARGE, -LARGE),
    "real": (0.0, -1.5, 0.1, 1e300, -1e-300, 3.0, float("inf")),
    "price": (Decimal(0), Decimal(10), Decimal("9.5"), Decimal("-0.01"), Decimal("1E+6"), Decimal("123456789.125")),
    "at": (NOON, NOON + timedelta(microseconds=1), NOON.astimezone(timezone(timedelta(hours=9))), NOON - timedelta(99)),
    "day": (date(2026, 3, 1), date(1066, 10, 14), date(9999, 12, 31)),
    "serial": tuple(UUID(int=n) for n in (0, 1, 2**127)),
    "flag": (False, True),
    "color": tuple(Color),
    "size": tuple(Size),
    "level": ("low", "high"),
    "raw": (b"", b"\x00\xff", b"a"),
}
"""Values by field; what compares equal may be written in several ways."""
NESTED: tuple[tuple[Part, ...], ...] = ((), (Part("a", 1, Decimal("1.0")),), (Part("ü"), Part("'\"", -5)))


def values() -> Iterator[Thing]:
    """Return things that have each value at least once."""
    for name, some in CHOICES.items():
        for index, value in enumerate(some):
            yield replace(Thing(f"{name}-{index}"), **{name: value})
    for index, parts in enumerate(NESTED):
        yield Thing(f"parts-{index}", parts=parts, notes={"b": [index], "a": [], "ü'": [LARGE]})


def wheres() -> st.SearchStrategy[dict[str, Any]]:
    """Return conditions of all kinds."""

    def condition(name: str) -> st.SearchStrategy[tuple[str, Any]]:
        value = st.sampled_from(CHOICES[name])
        return st.one_of(
            st.tuples(st.just(name), st.none() | value),
            *(st.tuples(st.just(f"{name}__{compare}"), _operands(compare, value)) for compare in COMPARES),
        )

    return st.lists(st.sampled_from(sorted(CHOICES)).flatmap(condition), max_size=3).map(dict)


def _operands(compare: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if compare == "in":
        return st.lists(value, max_size=3)
    return st.none() | value if compare in ("eq", "ne") else value


def orders() -> st.SearchStrategy[list[str]]:
    """Return orders by up to three fields, in either direction."""
    names = [sign + name for name in CHOICES for sign in ("", "-")]
    return st.lists(st.sampled_from(names), max_size=3)


def by_hand(rows: Sequence[Thing], where: dict[str, Any], order: Sequence[str]) -> list[Thing]:
    """Do in plain Python what `find` does."""
    found = [row for row in rows if all(_holds(row, term, value) for term, value in where.items())]
    found.sort(key=lambda row: row.thing_id)
    for name in reversed(order):
        value = attrgetter(name.removeprefix("-"))
        found.sort(key=lambda row, value=value: _rank(value(row)), reverse=name.startswith("-"))  # type: ignore[misc]
    return found


def _holds(row: Thing, term: str, wanted: Any) -> bool:
    name, _, compare = term.partition("__")
    value, compare = _plain(getattr(row, name)), compare or "eq"
    if compare == "in":
        return value is not None and value in [_plain(each) for each in wanted]
    wanted = _plain(wanted)
    if value is None or wanted is None:
        return bool(compare in ("eq", "ne") and (value is wanted) == (compare == "eq"))
    return bool(getattr(operator, compare)(value, wanted))


def _rank(value: Any) -> tuple[bool, Any]:
    return value is not None, 0 if value is None else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
