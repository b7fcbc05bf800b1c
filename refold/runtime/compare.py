"""Comparing two versions of a view: how many rows each has, and where they differ in the columns that both have.

Versions move on while they are compared, and one that nobody keeps up any more has stayed behind: what differs is told
only of rows that no event has changed since, or the comparison would tell of the time that has passed and not of the
definition.
"""

from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any

import msgspec

from refold.runtime.books import Books, Comparison, Version
from refold.runtime.project import Definition
from refold.runtime.versions import Versions
from refold.store.api import Store
from refold.view.api import Views
from refold.view.find import Find, conditions_of
from refold.view.table import LARGEST, Key, Table, narrowed

MOST_ROWS = 200_000
"""How many rows are compared; all are counted."""
MOST_MOVED = 100_000
"""How many events may lie between two versions, or come meanwhile, so that rows they change are left out."""
AT_ONCE = 2_000
SAMPLE = 10


async def comparison_of(versions: Versions, store: Store, old: Version, new: Version) -> Comparison:
    """Compare the rows of two versions, but for those that may have changed since the one that is behind."""
    books, tables = versions.books, versions.definition.tables(new.version)
    stands = [await _position(books, version) for version in (old, new)]
    moved = _Moved(store, versions.definition, min(stands))
    await moved.look()
    counts = _Counts()
    rows = [0, 0]
    for table in tables:
        kept = next((shape for shape in old.tables if shape.name == table.name), None)
        rows[1] += await _count(books.views, table)
        both = {name for name, form in kept.columns if form == table.form(name)} if kept else set[str]()
        if both.issuperset(table.key):
            before, now = (narrowed(table, both - {"valid_from"}, version.version) for version in (old, new))
            rows[0] += await _count(books.views, before)
            await _merge(books.views, before, now, moved, counts)
    return Comparison(
        old_position=await _position(books, old),
        new_position=await _position(books, new),
        old_rows=rows[0],
        new_rows=rows[1],
        compared=counts.compared,
        different=counts.different,
        only_old=counts.only_old,
        only_new=counts.only_new,
        old_hash=counts.digests[0].hexdigest(),
        new_hash=counts.digests[1].hexdigest(),
        sample=tuple(counts.sample),
    )


class _Moved:
    """The keys that events after a position may have changed."""

    def __init__(self, store: Store, definition: Definition, after: int) -> None:
        self.keys: set[Key] = set()
        self._store = store
        self._definition = definition
        self._after = self._upto = after

    async def look(self) -> None:
        """Learn of the events up to now; of too many, nothing."""
        head = await self._store.head()
        if head - self._after <= MOST_MOVED:
            async for page in self._store.read(self._definition.query, after=self._upto, upto=head):
                self.keys.update(self._definition.keys_of(page))
            self._upto = head


class _Counts:
    """What a comparison has found so far."""

    def __init__(self) -> None:
        self.compared = self.different = self.only_old = self.only_new = 0
        self.digests = (blake2b(digest_size=8), blake2b(digest_size=8))
        self.sample: list[str] = []

    def differs(self, table: Table, old: Any, new: Any) -> None:
        """Count rows of a key that are not the same, of which one may be missing; keep the first ones for people."""
        self.compared += 1
        for row, digest in zip((old, new), self.digests, strict=True):
            if row is not None:
                digest.update(msgspec.json.encode(row))
        if old is None:
            self.only_new += 1
            text = f"{_named(table, new)}: only now"
        elif new is None:
            self.only_old += 1
            text = f"{_named(table, old)}: only before"
        else:
            self.different += 1
            text = _difference(table, old, new)
        if len(self.sample) < SAMPLE:
            self.sample.append(text[:500])

    def agrees(self, row: bytes) -> None:
        """Count a row that is the same."""
        self.compared += 1
        for digest in self.digests:
            digest.update(row)


async def _merge(views: Views, old: Table, new: Table, moved: _Moved, counts: _Counts) -> None:
    """Go through both tables by key, side by side."""
    olds, news = _rows(views, old, moved), _rows(views, new, moved)
    left, right = await anext(olds, None), await anext(news, None)
    differing: list[tuple[Any, Any]] = []

    async def settle() -> None:
        """Count what differs, but for what has changed since it was read."""
        await moved.look()
        for one, other in differing:
            if _key_of(old, other if one is None else one) not in moved.keys:
                counts.differs(old, one, other)
        differing.clear()

    while (left or right) and counts.compared + len(differing) < MOST_ROWS:
        first = min(_sorted(old, each) for each in (left, right) if each is not None)
        is_old, is_new = (each is not None and _sorted(old, each) == first for each in (left, right))
        row = msgspec.json.encode(left)
        if is_old and is_new and row == msgspec.json.encode(right):
            counts.agrees(row)
        else:
            differing.append((left if is_old else None, right if is_new else None))
            if len(differing) == AT_ONCE:
                await settle()
        left = await anext(olds, None) if is_old else left
        right = await anext(news, None) if is_new else right
    await settle()


async def _rows(views: Views, table: Table, moved: _Moved) -> AsyncIterator[Any]:
    """Go through the current rows of a table by key, leaving out those that have moved."""
    after: Key | None = None
    while True:
        page = await views.find(table, Find(_current(table), limit=AT_ONCE, after=after))
        for row in page:
            after = table.key_of(row)
            if _key_of(table, row) not in moved.keys:
                yield row
        if len(page) < AT_ONCE or not table.key:
            return


async def _count(views: Views, table: Table) -> int:
    return await views.count(table, _current(table))


def _current(table: Table) -> Any:
    return conditions_of(table, {"valid_to": LARGEST}) if _is_dated(table) else ()


def _is_dated(table: Table) -> bool:
    return table.key[-1:] == ("valid_to",)


def _sorted(table: Table, row: Any) -> list[bytes]:
    """Return the key of a row so that it sorts as databases sort it."""
    return [_sortable(part) for part in table.key_of(row)]


def _sortable(part: Any) -> bytes:
    part = getattr(part, "value", part)
    return (part + 2**63).to_bytes(9, "big") if isinstance(part, int) else str(part).encode()


def _key_of(table: Table, row: Any) -> Key:
    key = table.key_of(row)
    return key[:-1] if _is_dated(table) else key


def _named(table: Table, row: Any) -> str:
    return " ".join([table.name, *(str(getattr(part, "value", part)) for part in _key_of(table, row))])


def _difference(table: Table, old: Any, new: Any) -> str:
    changed = [
        f"{column.name} was {before!r}, is {now!r}"
        for column, before, now in zip(table.columns, old, new, strict=True)
        if before != now
    ]
    return f"{_named(table, old)}: {', '.join(changed)}"


async def _position(books: Books, version: Version) -> int:
    found = await books.checkpoints(version.subscriptions())
    return min((row.position for row in found.values()), default=0)
