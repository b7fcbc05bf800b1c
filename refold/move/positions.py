"""The map of positions: where each event of one log stands in another, as lines `old,new` of a CSV file.

An event that became several has a line for each; one that was left out has a line without a new position.
"""

from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Self

from refold.errors import StoreError
from refold.move import manifest

HEADING = "old,new\n"


class Positions:
    """Writes a map; it takes its name when it is complete, in place of one that it continues, but of no other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._before = path.open(encoding="ascii", newline="") if path.exists() else StringIO()

    def __enter__(self) -> Self:
        with manifest.translated(self._path.parent):
            self._file = self._part.open("w", encoding="ascii", newline="")
        self._write(HEADING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._before.close()
        with manifest.translated(self._path.parent):
            if kind is None:
                manifest.sync(self._part)
                self._part.replace(self._path)
            else:
                self._part.unlink(missing_ok=True)

    def add(self, rows: Iterable[tuple[int, int | None]]) -> None:
        """Add where events stood, and stand."""
        self._write("".join(f"{old},{'' if new is None else new}\n" for old, new in rows))

    def _write(self, text: str) -> None:
        with manifest.translated(self._path.parent):
            if not text.startswith(self._before.read(len(text))):
                raise StoreError(f"{self._path} is the map of other logs: name another place for this one's")
            self._file.write(text)


def read_positions(path: Path) -> Iterator[tuple[int, int | None]]:
    """Read a map, line by line."""
    with path.open(encoding="ascii") as file:
        file.readline()
        for line in file:
            old, _, new = line.strip().partition(",")
            yield int(old), int(new) if new else None
