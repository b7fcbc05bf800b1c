"""The rows in which the runtime keeps its books, beside the rows of the views that they are about.

They are written over the same port as everything kept, so that what a subscription has done and how far it has come
change in one step: see `refold.view.api`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from refold.contract.describe import TagRule
from refold.errors import UndecodableEvent, UnknownEvent
from refold.model.record import StoredEvent
from refold.view.api import Expect, Put, Views, Write
from refold.view.find import conditions_of, find_of
from refold.view.table import Form, Table, table_of

Status: TypeAlias = Literal["building", "active", "kept", "rejected", "dropped"]
Action: TypeAlias = Literal["beat", "retry", "skip"]
UNREADABLE = (UnknownEvent, UndecodableEvent)
TIMER = "@timer:"
"""Begins the key of a timer that is parked, beside the tag that it has in common with events."""


class Checkpoint(Struct, frozen=True):
    """How far a subscription has come, and who runs it."""

    subscription: str
    position: int = 0
    epoch: int = 0
    """Counts its owners: what an earlier one writes is refused."""
    owner: str = ""
    """Who runs it; nobody if empty."""
    beat: int = 0
    """Grows while its owner lives and somebody waits to take it over."""
    moved_at: datetime | None = None
    trouble: str = ""
    """What holds it up, if anything does."""


class TableShape(Struct, frozen=True):
    """A table of a version, as whoever lacks its code needs to know it."""

    name: str
    stored: str
    columns: tuple[tuple[str, Form], ...]
    """Names and forms."""
    dated: bool = False
    """Whether it has every row that there ever was."""


class Comparison(Struct, frozen=True):
    """How the rows of a new version differ from those of the one before, both at the positions named."""

    old_position: int
    new_position: int
    old_rows: int
    new_rows: int
    compared: int = 0
    """How many rows were compared, in the columns that both have; those that changed in between are left out."""
    different: int = 0
    only_old: int = 0
    only_new: int = 0
    old_hash: str = ""
    new_hash: str = ""
    """Over the rows that were compared; equal if they are."""
    sample: tuple[str, ...] = ()
    """Some differences, for people."""


class Version(Struct, frozen=True):
    """One definition of a projection, with rows of its own."""

    projection: str
    version: str
    fingerprint: str
    status: Status
    tables: tuple[TableShape, ...]
    parts: int = 1
    """How many subscriptions share its keys."""
    target: int = 0
    """Where the log ended when building began."""
    started_at: datetime | None = None
    switched_at: datetime | None = None
    hold: bool = False
    """Whether it is switched to only when somebody says so."""
    pinned: bool = False
    """Whether it is read because somebody said so: then an older program that alone is left does not take over."""
    comparison: Comparison | None = None

    def subscriptions(self) -> tuple[str, ...]:
        """Return the names of its subscriptions."""
        name = f"{self.projection}@{self.version}"
        return (name,) if self.parts == 1 else tuple(f"{name}#{part}/{self.parts}" for part in range(self.parts))


class Parked(Struct, frozen=True):
    """An event that waits: it failed, or one of its keys is held up by one that did."""

    subscription: str
    position: int
    key: str
    """The tags whose later events wait behind it, as a JSON list."""
    type: str
    recorded_at: datetime
    parked_at: datetime
    error: str = ""
    """Why it failed; empty if it only waits behind another."""
    traceback: str = ""
    state: str = ""
    """What it should have been applied to, if anything, as JSON."""
    attempts: int = 0
    retry_at: datetime | None = None
    """When it is tried again by itself; None if only when somebody says so."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The tags whose later events wait behind it."""
        return msgspec.json.decode(self.key, type=tuple[str, ...])

    @property
    def unreadable(self) -> bool:
        """Whether the program could not read an event: another program may, and no other try of the same one."""
        # The error's class ends the traceback; a column for it would be missing in the tables that are there.
        return any(f"\n{error.__module__}.{error.__name__}: " in self.traceback for error in UNREADABLE)

    @property
    def timer(self) -> str:
        """The name of the timer that it is, rather than an event; empty if it is an event."""
        return next((key.removeprefix(TIMER) for key in self.keys if key.startswith(TIMER)), "")


class Skipped(Struct, frozen=True):
    """A parked event that somebody decided to leave out, and why."""

    subscription: str
    position: int
    key: str
    type: str
    reason: str
    actor: str
    skipped_at: datetime
    error: str = ""


class Request(Struct, frozen=True):
    """What somebody asks of the owner of a subscription, who may be another process."""

    subscription: str
    action: Action
    position: int = 0
    """Which parked event; 0 for all."""
    key: str = ""
    reason: str = ""
    actor: str = ""


class Snapshot(Struct, frozen=True):
    """A state as it was at a position, encoded."""

    state: str
    key: str
    fingerprint: str
    position: int
    data: bytes


class Timer(Struct, frozen=True):
    """A command that a process asked to be executed later."""

    process: str
    name: str
    """What the process calls it, or its id."""
    id: str
    """Under which it is executed."""
    position: int
    """Of the event that led to it."""
    key: str
    """The first tag of that event; empty if it has none."""
    command: str
    data: bytes
    due: datetime
    set_at: datetime
    actor: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    imported: bool = False
    """Whether the event occurred at another time than it was recorded; then so does what comes of this."""
    parked: bool = False
    """Whether it has failed, or waits behind what has."""


class Received(Struct, frozen=True):
    """A message of another context that came in, so that it does not again."""

    context: str
    id: str
    number: int
    received_at: datetime
    source: str = ""
    made: int = 0
    """When its id was made, in milliseconds since 1970; 0 if the id does not say."""


class Forgotten(Struct, frozen=True):
    """Up to when it is not known any more which messages of a source came in, by when their ids were made."""

    context: str
    source: str
    made: int


class Kept(Struct, frozen=True):
    """A message that is parked, whole."""

    context: str
    number: int
    id: str
    key: str
    body: bytes
    headers: dict[str, str]
    received_at: datetime


class StoredSchema(Struct, frozen=True):
    """A schema that events of a type and version were stored by, as whoever lacks its code needs to know it."""

    type: str
    version: int
    hash: str
    """Of what is stored; another one for the same type and version means that it changed without a new version."""
    schema: str
    """JSON Schema."""
    tags: tuple[TagRule, ...]
    """How tags are derived."""
    doc: str
    source: str
    """The class, as `module:name`."""
    position: int
    """Of the first event that was stored by it."""
    seen_at: datetime
    """When this was written down."""


CHECKPOINTS = table_of(Checkpoint, "_checkpoint", ["subscription"])
VERSIONS = table_of(Version, "_version", ["projection", "version"])
PARKED = table_of(Parked, "_parked", ["subscription", "position", "key"], indexes=[("position",)])
SKIPPED = table_of(Skipped, "_skipped", ["subscription", "position", "key"], indexes=[("position",)])
REQUESTS = table_of(Request, "_request", ["subscription", "action", "position", "key"])
SNAPSHOTS = table_of(Snapshot, "_snapshot", ["state", "key"])
TIMERS = table_of(Timer, "_timer", ["process", "name"], indexes=[("process", "parked", "due"), ("position",)])
RECEIVED = table_of(Received, "_received", ["context", "id"], indexes=[("context", "number")])
FORGOTTEN = table_of(Forgotten, "_forgotten", ["context", "source"])
MESSAGES = table_of(Kept, "_message", ["context", "number"])
SCHEMAS = table_of(StoredSchema, "_schema", ["type", "version", "hash"])
BOOKS = (CHECKPOINTS, VERSIONS, PARKED, SKIPPED, REQUESTS, SNAPSHOTS, TIMERS, RECEIVED, FORGOTTEN, MESSAGES)


class Books:
    """What the runtime knows of one database of views."""

    def __init__(self, views: Views) -> None:
        self.views = views
        self._there = False

    async def open(self) -> None:
        """Make the tables exist."""
        if not self._there:
            await self.views.create(BOOKS)
            self._there = True

    async def checkpoint(self, subscription: str) -> Checkpoint | None:
        """Return how far a subscription has come, if it has ever begun."""
        return (await self.views.get(CHECKPOINTS, [(subscription,)])).get((subscription,))

    async def checkpoints(self, subscriptions: Sequence[str]) -> dict[str, Checkpoint]:
        """Return how far some subscriptions have come, those that have begun."""
        found = await self.views.get(CHECKPOINTS, [(name,) for name in subscriptions])
        return {row.subscription: row for row in found.values()}

    async def find(
        self, table: Table, where: dict[str, Any] | None = None, limit: int | None = None, *, order: str = ""
    ) -> list[Any]:
        """Return rows of a book in the order of a column, and of their keys."""
        return await self.views.find(table, find_of(table, where, order, limit, 0))

    async def count(self, table: Table, where: dict[str, Any]) -> int:
        """Count rows of a book."""
        return await self.views.count(table, conditions_of(table, where))

    async def put(self, table: Table, row: Any, *, in_place_of: Any = None) -> bool:
        """Write a row; return False if the one that it replaces, or the absence of one, is not there any more."""
        values = None
        if in_place_of is not None:
            values = {name: getattr(in_place_of, name) for name in row.__struct_fields__}
        return await self.views.write([Put(table, [row])], [Expect(table, table.key_of(row), values)])

    async def write(self, *writes: Write, expects: Sequence[Expect] = ()) -> bool:
        """Write in one step; see the port."""
        return await self.views.write(writes, expects)

    async def versions(self, projection: str | None = None, *, ever: bool = False) -> list[Version]:
        """Return the versions that there are, of one projection or all; or all that there ever were."""
        where = {"projection": projection} if projection else {}
        return await self.find(VERSIONS, where if ever else {**where, "status__ne": "dropped"})


def parked_at(stored: StoredEvent, subscription: str, keys: Sequence[str]) -> Parked:
    """Return a stored event as one that waits behind others."""
    return Parked(
        subscription,
        stored.position,
        msgspec.json.encode(keys).decode(),
        stored.type,
        stored.recorded_at,
        datetime.now(UTC),
    )
