"""The port of kept rows: tables, and writes of which all happen or none, if what they rely on still holds.

That is all a database has to offer. How far each subscription has come, who runs it, which version of a view is
read, what is parked and how rows were in the past are rows themselves; see `refold.runtime`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct

from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.view.find import Condition, Find
from refold.view.table import Key, Row, Table


class Put(Struct, frozen=True):
    """Rows that take the place of those of the same key; of several of one key the last."""

    table: Table
    rows: Sequence[Any]
    shared: bool = False
    """Whether other programs write to the table, too: then columns that it does not know stay as they are."""


class Delete(Struct, frozen=True):
    """Rows that go, if they are there."""

    table: Table
    keys: Sequence[Key]


Write: TypeAlias = Put | Delete
Order: TypeAlias = Literal["best", "first", "last"]
"""Which of the rows that a search finds come first."""


class Held(Struct, frozen=True):
    """A row, and its values just as the database holds them: other programs may write what is read as the same row."""

    row: Any
    values: Row


class Expect(Struct, frozen=True):
    """What must hold for a write: that a row has these values, or is held just so; or that there is no such row."""

    table: Table
    key: Key
    values: Mapping[str, Any] | None = None
    held: Row | None = None

    @property
    def absent(self) -> bool:
        """Whether there must be no such row."""
        return self.values is None and self.held is None


class Hit(Struct, frozen=True):
    """A row that a search has found; the higher the score, the better it fits."""

    row: Any
    score: float


class Views(Protocol):
    """Tables of rows beside a log, or in a database of their own.

    What takes a table raises `NotKept` if the database has none of its version.
    """

    async def create(self, tables: Sequence[Table]) -> None:
        """Make tables exist, all or none; those that do are left as they are, but get the indexes that they lack."""
        ...

    async def widen(self, table: Table, like: Any) -> None:
        """Give a table that is there the columns that it lacks; the rows in it take the values of `like` for them.

        Columns that only the database has stay. Raises `WiringError` where the table would have to become another one:
        of another key, with values of another type in a column, or with other columns to be searched.
        """
        ...

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables by their stored names, whether they exist or not."""
        ...

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes in one step, as durable as the log is; return False, having done nothing, if an
        expectation does not hold.

        Of several that rely on one row and change it only one succeeds. An expectation on a row that is not written
        holds until the write is done.
        """  # noqa: D205
        ...

    async def append(
        self,
        events: Sequence[NewEvent],
        condition: Conditions = None,
        *,
        append_id: str | None = None,
        writes: Sequence[Write] = (),
        expects: Sequence[Expect] = (),
    ) -> Appended | None:
        """Append to the log beside which the rows are and do all the writes, both in one step.

        All that `Store.append` promises and raises holds, and all that `write` does: there is never an event without
        its rows, nor a row without its events. Returns None, having done nothing, if an expectation does not hold.
        An append repeated with its `append_id` returns the first one's result and writes no row, whatever it expects.
        Of several appends that rely on rows that the others write only one succeeds, also where rows are to be absent.
        Raises `MissingCapability` if the rows are in another database than the log.
        """
        ...

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        ...

    async def look(self, table: Table, keys: Sequence[Key]) -> dict[Key, Held]:
        """Return the rows that exist among these keys, each as it is held, so that just that can be expected."""
        ...

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        ...

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        ...

    async def search(
        self,
        table: Table,
        words: str,
        where: Sequence[Condition],
        limit: int,
        offset: int = 0,
        *,
        order: Order = "best",
    ) -> list[Hit]:
        """Return the rows whose searched columns hold all the words, the best first; see `refold.view.search`.

        They can come by key instead, the first or the last one first: then they are not judged, and have no score.
        """
        ...

    async def expose(self, table: Table) -> None:
        """Show the rows of this version under the table's plain name, to whoever reads the database with SQL."""
        ...

    async def close(self) -> None:
        """Let go of the database, if it is not the log's."""
        ...
