"""What the check against history looks at, and what it finds: counts, the first failures, and a sample of keys."""

from collections.abc import Callable, Collection
from typing import Any, Protocol
from zlib import crc32

from msgspec import Struct

from refold.errors import UnreadableEvent
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.model.state import State
from refold.model.upcast import Upcasting
from refold.view.table import Table

FAILURES = 20
"""How many are told in full; all are counted."""
DATA_CHARS = 2_000
SKETCHED = 512
"""By how many of the smallest hashes the number of keys of a tag is estimated, to about 5 %."""
LARGEST = 1 << 32


class Keeps(Protocol):
    """A projection with tables of its own, as far as it is checked here."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def query(self) -> Query:
        """Which events it reads."""
        ...

    def tables(self, version: str) -> tuple[Table, ...]:
        """Return its tables."""
        ...

    def worker(self, views: Any, version: str) -> Any:
        """Return what applies events to them."""
        ...


class Program(Struct, frozen=True):
    """What a program is made of, as far as history concerns it; sent to workers by the names of its parts."""

    events: tuple[type, ...]
    upcasters: tuple[Upcasting, ...] = ()
    states: tuple[type[State], ...] = ()
    kept: tuple[type[State], ...] = ()
    """Those of the states whose values are rows of a view."""
    tables: tuple[tuple[Callable[[Any, Schema], Keeps], Any], ...] = ()
    """For each projection with tables of its own what reads it, and what it is."""

    def schema(self) -> Schema:
        """Return how its events are read."""
        return Schema(self.events, self.upcasters)


class Failure(Struct, frozen=True):
    """An event that the program cannot read or fold."""

    position: int
    type: str
    version: int
    what: str
    """What fails on it: `decode`, or a state or projection with its key."""
    error: str
    todo: str
    tags: tuple[str, ...]
    data: str


class Count(Struct):
    """How many events of a type and version there are."""

    events: int = 0
    decoded: int = 0
    failed: int = 0


class Folded(Struct):
    """How many states of a class, or rows of a projection, were folded."""

    keys: int = 0
    events: int = 0
    failed: int = 0


class Found(Struct):
    """What a worker has found."""

    counts: dict[tuple[str, int], Count] = {}
    folded: dict[str, Folded] = {}
    failures: list[Failure] = []
    folded_all: bool = False
    """Whether states were folded in passing."""
    keys: dict[str, dict[int, str]] = {}
    """For each name of a tag the tags with the smallest hashes, by those: a sample, and by its density their number."""

    def fail(self, stored: StoredEvent, what: str, error: BaseException, todo: str) -> None:
        """Note a failure; the first ones are kept in full."""
        if len(self.failures) < FAILURES:
            data = stored.data.decode(errors="backslashreplace")[:DATA_CHARS]
            text = str(error) if isinstance(error, UnreadableEvent) else repr(error)
            self.failures.append(
                Failure(stored.position, stored.type, stored.version, what, text, todo, stored.tags, data)
            )

    def add(self, other: "Found", sketched: int) -> None:
        """Add what another has found."""
        for key, count in other.counts.items():
            mine = self.counts.setdefault(key, Count())
            mine.events += count.events
            mine.decoded += count.decoded
            mine.failed += count.failed
        for name, folded in other.folded.items():
            own = self.folded.setdefault(name, Folded())
            own.keys += folded.keys
            own.events += folded.events
            own.failed += folded.failed
        self.failures = sorted([*self.failures, *other.failures], key=lambda each: (each.position, each.what))[
            :FAILURES
        ]
        for name, hashes in other.keys.items():
            self.keys[name] = smallest({**self.keys.get(name, {}), **hashes}, sketched)


def estimate(hashes: Collection[int]) -> int:
    """Return about how many keys there are, of which these hashes are the smallest."""
    if len(hashes) < SKETCHED:
        return len(hashes)
    return round((len(hashes) - 1) * LARGEST / max(max(hashes), 1))


def hash_of(tag: str) -> int:
    """Return a number that spreads tags evenly; the same in every process."""
    # CRC alone gives keys that differ in a few digits numbers that differ as little.
    return crc32(tag.encode()) * 0x9E3779B1 & 0xFFFFFFFF


def smallest(hashes: dict[int, str], count: int) -> dict[int, str]:
    """Return the tags with the smallest hashes."""
    return dict(sorted(hashes.items())[:count])
