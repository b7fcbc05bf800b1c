"""Kept rows in memory, beside a log in memory."""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import ref

from refold.errors import MissingCapability, StoreClosed
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.store.memory import MemoryStore
from refold.view.api import Expect, Held, Hit, Order, Put, Write
from refold.view.find import Condition, Find, comparable, meets
from refold.view.search import counted, matching
from refold.view.table import LARGEST, Key, Row, Table, not_kept, unlike


class MemoryViews:
    """Rows that are gone when the process ends."""

    def __init__(self, log: MemoryStore | None = None) -> None:
        self.beside = None if log is None else ref(log)
        """The log, which does not end later because of its views."""
        self._tables: dict[str, dict[Key, Row]] = {}
        self._names: dict[str, list[str]] = {}
        """The columns that a table has: who reads it may ask for fewer."""
        self._made: dict[str, Table] = {}
        """What a table was made of, or became last."""

    async def create(self, tables: Sequence[Table]) -> None:
        """Make tables exist."""
        for table in tables:
            self._tables.setdefault(table.stored, {})
            self._names.setdefault(table.stored, [column.name for column in table.columns])
            self._made.setdefault(table.stored, table)

    async def widen(self, table: Table, like: Any) -> None:
        """Give a table the columns that it lacks."""
        rows, names, made = self._rows(table), self._names[table.stored], self._made[table.stored]
        if made.key != table.key:
            raise unlike(table, f"its key is {', '.join(made.key)}")
        if [each.name for each in made.searched] != [each.name for each in table.searched]:
            raise unlike(table, f"{len(made.searched)} of its columns are searched")
        for column in made.columns:
            if table.form(column.name) not in (None, column.form):
                raise unlike(table, f"its column {column.name} is {column.form}")
        values = dict(zip((column.name for column in table.columns), table.dump(like), strict=True))
        new = [column.name for column in table.columns if column.name not in names]
        for key, row in rows.items():
            rows[key] = (*row, *(values[name] for name in new))
        names += new
        self._made[table.stored] = table

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables."""
        for name in stored:
            self._tables.pop(name, None)
            self._names.pop(name, None)
            self._made.pop(name, None)

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes, if what they expect holds; see the port."""
        return self._write(writes, expects)

    async def append(
        self,
        events: Sequence[NewEvent],
        condition: Conditions = None,
        *,
        append_id: str | None = None,
        writes: Sequence[Write] = (),
        expects: Sequence[Expect] = (),
    ) -> Appended | None:
        """Append to the log and do the writes; see the port."""
        if self.beside is None:
            raise MissingCapability("these rows are in another database than the log: no step changes both")
        log = self.beside()
        if log is None:
            raise StoreClosed
        return await log.append_with(events, condition, append_id, lambda: self._write(writes, expects))

    async def look(self, table: Table, keys: Sequence[Key]) -> dict[Key, Held]:
        """Return the rows that exist among these keys, as they are held."""
        kept = self._rows(table)
        found = {key: self._asked(table, kept[key]) for key in keys if key in kept}
        return {key: Held(table.parse(values), values) for key, values in found.items()}

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        kept = self._rows(table)
        return {key: table.parse(self._asked(table, kept[key])) for key in keys if key in kept}

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        names = [column.name for column in table.columns]
        rows = [self._asked(table, row) for row in self._rows(table).values()]
        rows = [row for row in rows if meets(names, row, find.where)]
        order = [(names.index(column.name), column.form, down) for column, down in find.order]
        keys = [(names.index(name), table.column(name).form) for name in table.key]
        order += [(index, form, False) for index, form in keys]
        for index, form, down in reversed(order):
            rows.sort(key=partial(_place, index, form), reverse=down)
        if find.after is not None:
            dumped = [table.column(name).dumped(value) for name, value in zip(table.key, find.after, strict=True)]
            after = [comparable(form, value) for (_, form), value in zip(keys, dumped, strict=True)]
            rows = [row for row in rows if [comparable(form, row[index]) for index, form in keys] > after]
        end = None if find.limit is None else find.offset + find.limit
        return [table.parse(row) for row in rows[find.offset : end]]

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        names = [column.name for column in table.columns]
        return sum(meets(names, self._asked(table, row), where) for row in self._rows(table).values())

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
        """Return the rows that hold all the words, in an order."""
        rows = await self.find(table, Find(tuple(where)))
        if order == "best":
            found = matching(table, rows, words)
        else:
            ordered = rows if order == "first" else reversed(rows)
            found = [Hit(row, 0.0) for row, _ in counted(table, ordered, words)]
        return found[offset : offset + limit]

    async def expose(self, table: Table) -> None:
        """Look whether there is such a table; nobody reads memory with SQL."""
        self._rows(table)

    async def close(self) -> None:
        """Stay as long as the log in memory does."""

    def _write(self, writes: Sequence[Write], expects: Sequence[Expect]) -> bool:
        # All is looked up and dumped before anything changes: what fails leaves no trace.
        changes = [(each.table, self._rows(each.table), _changes(each)) for each in writes]
        if not all(map(self._holds, expects)):
            return False
        for table, kept, changed in changes:
            for key, row in changed.items():
                if row is None:
                    kept.pop(key, None)
                else:
                    kept[key] = self._whole(table, row, kept.get(key))
        return True

    def _whole(self, table: Table, row: Row, before: Row | None) -> Row:
        """Return a row with all columns that there are; what a table does not know stays as it was."""
        names = self._names[table.stored]
        if names == [column.name for column in table.columns]:
            return row
        values = dict.fromkeys(names) if before is None else dict(zip(names, before, strict=True))
        values.update(zip((column.name for column in table.columns), row, strict=True))
        return tuple(values.values())

    def _rows(self, table: Table) -> dict[Key, Row]:
        kept = self._tables.get(table.stored)
        if kept is None:
            raise not_kept(table)
        return kept

    def _asked(self, table: Table, row: Row) -> Row:
        """Return the columns of a row that a table has."""
        names = self._names[table.stored]
        if names == [column.name for column in table.columns]:
            return row
        values = dict(zip(names, row, strict=True))
        return tuple([values[column.name] for column in table.columns])

    def _holds(self, expect: Expect) -> bool:
        row = self._rows(expect.table).get(expect.key)
        if row is None or expect.absent:
            return row is None and expect.absent
        row = self._asked(expect.table, row)
        if expect.held is not None and expect.held != row:
            return False
        found = dict(zip((column.name for column in expect.table.columns), row, strict=True))
        values = expect.values or {}
        return all(found[name] == expect.table.column(name).dumped(value) for name, value in values.items())


def _changes(write: Write) -> dict[Key, Row | None]:
    if isinstance(write, Put):
        return {write.table.key_of(row): _held(write.table, write.table.dump(row)) for row in write.rows}
    return dict.fromkeys(write.keys)


def _held(table: Table, row: Row) -> Row:
    """Return a row, or raise what says that no database could hold it."""
    for column, value in zip(table.columns, row, strict=True):
        if isinstance(value, str):
            value.encode()
        elif column.form == "integer" and value is not None and abs(operator.index(value)) > LARGEST:
            raise OverflowError(f"{table.name}.{column.name}: {value} is too large for a row")
    return row


def _place(index: int, form: str, row: Row) -> tuple[bool, Any]:
    """Return what a row is sorted by; None comes first, as in SQLite."""
    return row[index] is not None, comparable(form, row[index])
