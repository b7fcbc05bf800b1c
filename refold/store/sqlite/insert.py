"""Inserting many rows with few statements: each one costs a struggle for the interpreter's lock."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import apsw

CHUNKS = (128, 16, 4, 1)
"""How many rows one statement inserts; few sizes, so that SQLite compiles each statement once."""


def insert(connection: apsw.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert whole rows; `into` is the statement up to its values, of our own making."""
    start = 0
    for size in CHUNKS:
        while len(rows) - start >= size:
            row = "(" + ", ".join("?" * len(rows[0])) + ")"
            bound = list(chain.from_iterable(rows[start : start + size]))
            connection.execute(f"{into} VALUES {', '.join([row] * size)}", bound)
            start += size
