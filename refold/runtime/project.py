"""Projections: states that are kept as rows, moved on with the log a batch at a time."""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from refold.errors import UnreadableEvent, WiringError
from refold.model.fingerprint import fingerprint
from refold.model.hints import described
from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.schema import Schema
from refold.model.state import State, keys_by_event, state_kind
from refold.runtime.fold import Folding
from refold.runtime.worker import Worker
from refold.store.api import Page
from refold.view.api import Views
from refold.view.table import Key, Table, dated, table_of

MAX_PARTS = 256


class Kept(Struct, frozen=True):
    """How a projection is kept: see `kept`."""

    projection: type
    history: bool = False
    parts: int = 1
    database: str | None = None
    version: int | None = None


def kept(
    projection: type,
    *,
    history: bool = False,
    parts: int = 1,
    database: str | None = None,
    version: int | None = None,
) -> Kept:
    """Say how a projection is kept: `projections=[kept(OrderSummary, history=True)]`.

    With `history` every row that there ever was is kept, so that `as_of=` answers at once. `parts` share its keys, so
    that several processes work on it. `database` is the address of another database than the log's, for its rows and
    checkpoint. `version` is a number that stands for the definition in place of its fingerprint: rows are made anew
    when it changes, and only then.
    """
    return Kept(projection, history, parts, database, version)


class Definition(Protocol):
    """A projection as an app is wired with it."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells its rows from those of another definition."""
        ...

    @property
    def how(self) -> Kept:
        """How it is kept."""
        ...

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The classes of events that it is told of."""
        ...

    @property
    def query(self) -> Query:
        """Which events it reads."""
        ...

    def tables(self, version: str) -> tuple[Table, ...]:
        """Return its tables in a version."""
        ...

    def worker(self, views: Views, version: str, part: int = 0, parts: int = 1) -> Worker:
        """Return what keeps its rows, or the part of them whose keys fall to it."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether parts can share its keys."""
        ...

    @property
    def coarse(self) -> bool:
        """Whether the events alone do not tell which rows they change."""
        ...

    def keys_of(self, page: Page) -> Sequence[Key]:
        """Return the keys of the rows that some events change, as far as the events alone tell."""
        ...


class StateProjection:
    """A state that is kept: a row for each key that an event carries."""

    coarse = False

    def __init__(self, how: Kept, schema: Schema) -> None:
        cls: Any = how.projection
        if not isinstance(cls, type) or not issubclass(cls, State):
            raise WiringError(
                f"{described(how.projection)} is neither a state nor a Projection; `projections` is a list of those"
            )
        self.how = checked(how)
        self.kind = state_kind(cls)
        self.divisible = bool(self.kind.keys)
        self.name = cls.__name__
        self.events = self.kind.events
        self.query = Query((QueryItem(schema.names(self.events)),))
        self.schema = schema
        self.keys = keys_by_event(self.kind)
        own = fingerprint(cls, schema.upcasters(self.kind.events))
        self.fingerprint = version_of(how, own) + ("h" if how.history else "")
        if how.parts > 1 and not self.kind.keys:
            raise WiringError(f"{described(cls)} has one row, so it cannot be kept in {how.parts} parts")
        self._tables: dict[str, tuple[Table, ...]] = {}
        self.tables("")  # refuses fields that no row can hold

    def tables(self, version: str) -> tuple[Table, ...]:
        """Return its one table."""
        if version not in self._tables:
            key = [field.name for field in self.kind.keys]
            table = table_of(self.kind.cls, self.name, key, version=version)
            self._tables[version] = (dated(table) if self.how.history else table,)
        return self._tables[version]

    def worker(self, views: Views, version: str, part: int = 0, parts: int = 1) -> Worker:
        """Return what folds events into its rows."""
        [table] = self.tables(version)
        return Folding(self.kind, self.schema, table, views, history=self.how.history, part=part, parts=parts)

    def keys_of(self, page: Page) -> Sequence[Key]:
        """Return the keys of the rows that some events change; those that cannot be read change none."""
        found: dict[Key, None] = {}
        for stored in page:
            try:
                events = self.schema.decode(stored)
            except UnreadableEvent:
                continue
            for event in events:
                if type(event) in self.keys:
                    found.update(dict.fromkeys(self.keys[type(event)](event)))
        return list(found)


def checked(how: Kept) -> Kept:
    """Refuse what no projection can be kept with."""
    name = described(how.projection)
    if not 1 <= how.parts <= MAX_PARTS:
        raise WiringError(f"{name} is to be kept in {how.parts} parts: 1 to {MAX_PARTS} can share its keys")
    if how.version is not None and how.version < 1:
        raise WiringError(f"{name} has version={how.version}: versions begin at 1")
    return how


def version_of(how: Kept, fingerprint: str) -> str:
    """Return what stands for a definition."""
    return fingerprint[:12] if how.version is None else f"v{how.version}"
