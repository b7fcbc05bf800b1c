"""Inserting many rows with few statements: each one costs a struggle for the interpreter's lock."""

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import apsw

CHUNKS = (128, 16, 4, 2, 1)
"""How many rows one statement inserts; few sizes, so that SQLite compiles each statement once."""


@cache
def _statement(into: str, width: int, size: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return f"{into} VALUES {', '.join([row] * size)}"


def insert(connection: apsw.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert whole rows; `into` is the statement up to its values, of our own making."""
    start, left = 0, len(rows)
    for size in CHUNKS:
        while left >= size:
            bound = rows[start] if size == 1 else tuple(chain.from_iterable(rows[start : start + size]))
            connection.execute(_statement(into, len(rows[0]), size), bound)
            start += size
            left -= size
        if not left:
            return
