"""Comparing two versions of a view: how many rows each has, and where they differ in the columns that both have.

A version that nobody keeps up any more has stayed behind; rows that changed since are left out, or the comparison
would tell of the time that has passed and not of the definition.
"""

from collections.abc import AsyncIterator, Collection
from hashlib import blake2b
from typing import Any

import msgspec

from refold.runtime.books import Books, Comparison, Version
from refold.view.api import Views
from refold.view.find import Find, conditions_of
from refold.view.table import LARGEST, Key, Table, narrowed

MOST_ROWS = 200_000
"""How many rows are compared; all are counted."""
AT_ONCE = 2_000
SAMPLE = 10


async def compared(
    books: Books, old: Version, new: Version, tables: tuple[Table, ...], moved: Collection[Key]
) -> Comparison:
    """Compare the rows of two versions; `tables` are those of the new one, `moved` the keys to leave out."""
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


class _Counts:
    """What a comparison has found so far."""

    def __init__(self) -> None:
        self.compared = self.different = self.only_old = self.only_new = 0
        self.digests = (blake2b(digest_size=8), blake2b(digest_size=8))
        self.sample: list[str] = []

    def note(self, text: str) -> None:
        """Keep the first differences for people."""
        if len(self.sample) < SAMPLE:
            self.sample.append(text[:500])


async def _merge(views: Views, old: Table, new: Table, moved: Collection[Key], counts: _Counts) -> None:
    """Go through both tables by key, side by side."""
    olds, news = _rows(views, old, moved), _rows(views, new, moved)
    left, right = await anext(olds, None), await anext(news, None)
    while (left or right) and counts.compared < MOST_ROWS:
        counts.compared += 1
        first = min(_sorted(old, each) for each in (left, right) if each is not None)
        is_old, is_new = (each is not None and _sorted(old, each) == first for each in (left, right))
        for there, row, digest in ((is_old, left, counts.digests[0]), (is_new, right, counts.digests[1])):
            if there:
                digest.update(msgspec.json.encode(row))
        if is_old and is_new:
            if msgspec.json.encode(left) != msgspec.json.encode(right):
                counts.different += 1
                counts.note(_difference(old, left, right))
        elif is_old:
            counts.only_old += 1
            counts.note(f"{_named(old, left)}: only before")
        else:
            counts.only_new += 1
            counts.note(f"{_named(new, right)}: only now")
        left = await anext(olds, None) if is_old else left
        right = await anext(news, None) if is_new else right


async def _rows(views: Views, table: Table, moved: Collection[Key]) -> AsyncIterator[Any]:
    """Go through the current rows of a table by key, leaving out some keys."""
    after: Key | None = None
    while True:
        page = await views.find(table, Find(_current(table), limit=AT_ONCE, after=after))
        for row in page:
            after = table.key_of(row)
            if (after[:-1] if _is_dated(table) else after) not in moved:
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


def _named(table: Table, row: Any) -> str:
    key = table.key_of(row)[:-1] if _is_dated(table) else table.key_of(row)
    return " ".join([table.name, *(str(getattr(part, "value", part)) for part in key)])


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
