"""A write to PostgreSQL: one statement that looks whether what is expected holds, and then does all or nothing.

Rows that are expected are locked by it. Of two writers who expect the same row, the second waits for the first, and is
then shown the row as it is by then: if it is no longer as expected, the rest of its statement finds nothing to do.
A row that must not be there and is put is inserted in a way that fails if somebody else was faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

from refold.view.api import Delete, Expect, Put, Write
from refold.view.postgres.layout import Layout, named, sent_as
from refold.view.table import Key, Table


def step_of(writes: Sequence[Write], expects: Sequence[Expect], layout_of: Callable[[Table], Layout]) -> "Step":
    """Return the statement of a write."""
    step = Step()
    for expect in expects:
        step.expect(layout_of(expect.table), expect)
    step.begin()
    absent = {(each.table.stored, each.key) for each in expects if each.absent}
    for table, rows in _merged(writes):
        layout = layout_of(table)
        fresh = [row for key, row in rows.items() if row is not None and (table.stored, key) in absent]
        others = [row for key, row in rows.items() if row is not None and (table.stored, key) not in absent]
        step.put(layout, fresh, fresh=True)
        step.put(layout, others, fresh=False)
        step.delete(layout, [key for key, row in rows.items() if row is None])
    return step


class Step:
    """The one statement of a write, put together part by part."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.bound: list[Any] = []
        self._tests: list[str] = []

    def expect(self, layout: Layout, expect: Expect) -> None:
        """Add what must hold; a row that must be as it is stays so until the end."""
        table, tests = layout.table, list[str]()
        wanted = [
            (name, sent_as(layout.type_of(table.column(name)), table.column(name).dumped(value)))
            for name, value in [*zip(table.key, expect.key, strict=True), *(expect.values or {}).items()]
        ]
        if expect.held is not None:
            wanted += zip((column.name for column in table.columns), expect.held, strict=True)
        for name, value in wanted:
            self.bound.append(value)
            of = layout.type_of(table.column(name))
            tests.append(f"{named(name)} IS NOT DISTINCT FROM ${len(self.bound)}::{of.name}")
        name = f"expected{len(self._tests)}"
        rows = f"SELECT 1 FROM {layout.name} WHERE {' AND '.join(tests) or 'true'}"  # noqa: S608 - names are quoted, values bound
        if expect.absent:
            self._tests.append(f"NOT EXISTS ({rows})")
        else:
            self.parts.append(f"{name} AS ({rows} FOR UPDATE)")
            self._tests.append(f"EXISTS (SELECT FROM {name})")

    def begin(self) -> None:
        """End what must hold."""
        self.parts.append(f"ok AS MATERIALIZED (SELECT {' AND '.join(self._tests) or 'true'} AS held)")

    def put(self, layout: Layout, rows: Sequence[Any], *, fresh: bool) -> None:
        """Add rows."""
        if rows:
            self.parts.append(f"done{len(self.parts)} AS ({layout.insert(len(self.bound) + 1, fresh=fresh)})")
            self.bound += layout.sent(rows)

    def delete(self, layout: Layout, keys: Sequence[Key]) -> None:
        """Take rows away."""
        if keys:
            arrays = layout.key_arrays(len(self.bound) + 1)
            gone = f"({layout.key}) IN (SELECT * FROM unnest({arrays}))" if layout.table.key else "true"  # noqa: S608 - names are quoted
            delete = f"DELETE FROM {layout.name} WHERE {gone} AND (SELECT held FROM ok)"  # noqa: S608 - names are quoted, values bound
            self.parts.append(f"done{len(self.parts)} AS ({delete})")
            self.bound += layout.sent_keys(keys)

    @property
    def sql(self) -> str:
        """The statement, which returns whether what was expected held."""
        return f"WITH {', '.join(self.parts)} SELECT held FROM ok"  # noqa: S608 - names are quoted, values bound


def _merged(writes: Sequence[Write]) -> list[tuple[Table, dict[Key, Any]]]:
    """Return for each table the rows by key, None for those that go: one statement may touch a row once."""
    merged: dict[str, tuple[Table, dict[Key, Any]]] = {}
    for write in writes:
        _, rows = merged.setdefault(write.table.stored, (write.table, {}))
        if isinstance(write, Put):
            rows.update((write.table.key_of(row), row) for row in write.rows)
        else:
            assert isinstance(write, Delete)
            rows.update(dict.fromkeys(write.keys))
    return list(merged.values())
