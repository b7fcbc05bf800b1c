"""Kept rows in memory, beside a log in memory."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from refold.model.state import State
from refold.view.api import Condition, Find, Key, Row, Snapshot, Table, kept_otherwise

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda value, choices: value in choices,
}


class MemoryViews:
    """Tables, checkpoints and snapshots that are gone when the process ends."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[str, dict[Key, Row]]] = {}
        self._checkpoints: dict[str, int] = {}
        self._snapshots: dict[tuple[str, str], tuple[str, Snapshot]] = {}

    async def open(self, table: Table) -> None:
        """Make the table exist; see the port."""
        fingerprint, _ = self._tables.get(table.name, ("", {}))
        if fingerprint != table.fingerprint:
            self._tables[table.name] = (table.fingerprint, {})
            self._checkpoints.pop(table.name, None)

    async def checkpoint(self, subscription: str) -> int:
        """Return how far a subscription has come."""
        return self._checkpoints.get(subscription, 0)

    async def advance(
        self, subscription: str, *, before: int, after: int, table: Table | None = None, rows: Sequence[State] = ()
    ) -> bool:
        """Put rows in place and move the checkpoint on; see the port."""
        kept = self._rows(table) if table else {}
        if self._checkpoints.get(subscription, 0) != before:
            return False
        if table is not None:
            changed = [(table.key_of(row), table.dump(row)) for row in rows]
            kept.update(changed)
        self._checkpoints[subscription] = after
        return True

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, State]:
        """Return the rows that exist among these keys."""
        kept = self._rows(table)
        return {key: table.parse(kept[key]) for key in keys if key in kept}

    async def find(self, table: Table, find: Find) -> list[State]:
        """Return matching rows in order."""
        names = [column.name for column in table.columns]
        rows = [row for row in self._rows(table).values() if _matches(names, row, find.where)]
        order = [(names.index(column.name), column.form, down) for column, down in find.order]
        order += [(names.index(name), "text", False) for name in table.key]
        for index, form, down in reversed(order):
            rows.sort(key=partial(_place, index, form), reverse=down)
        end = None if find.limit is None else find.offset + find.limit
        return [table.parse(row) for row in rows[find.offset : end]]

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        names = [column.name for column in table.columns]
        return sum(_matches(names, row, where) for row in self._rows(table).values())

    async def snapshot(self, state: str, key: str, fingerprint: str) -> Snapshot | None:
        """Return the snapshot of a state."""
        known, snapshot = self._snapshots.get((state, key), ("", None))
        return snapshot if known == fingerprint else None

    async def keep_snapshot(self, state: str, key: str, fingerprint: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of an older one."""
        known, older = self._snapshots.get((state, key), ("", None))
        if older is None or known != fingerprint or older.position < snapshot.position:
            self._snapshots[state, key] = (fingerprint, snapshot)

    def _rows(self, table: Table) -> dict[Key, Row]:
        kept = self._tables.get(table.name)
        if kept is None or kept[0] != table.fingerprint:
            raise kept_otherwise(table, kept and kept[0])
        return kept[1]


def _matches(names: Sequence[str], row: Row, where: Sequence[Condition]) -> bool:
    for condition in where:
        value, wanted, form = row[names.index(condition.column.name)], condition.value, condition.column.form
        if value is None or wanted is None:
            # As in SQL with IS: None equals None only, and is neither above nor below anything.
            held = (value is wanted) == (condition.compare == "eq") and condition.compare in ("eq", "ne")
        elif condition.compare == "in":
            held = _comparable(form, value) in [_comparable(form, each) for each in wanted]
        else:
            held = _COMPARE[condition.compare](_comparable(form, value), _comparable(form, wanted))
        if not held:
            return False
    return True


def _place(index: int, form: str, row: Row) -> tuple[bool, Any]:
    """Return what a row is sorted by; None comes first, as in SQLite."""
    return row[index] is not None, _comparable(form, row[index])


def _comparable(form: str, value: Any) -> Any:
    if value is None:
        return 0
    return float(value) if form == "decimal" else value  # as SQLite does
