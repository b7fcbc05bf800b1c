"""What a terminal shows: tables and colour for people, tabs and JSON lines for programs; never what data would say."""

import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refold.model.record import StoredEvent

_encode = msgspec.json.Encoder().encode
LONGEST = 10_000
"""How many characters of a value are shown to people; programs get all of it."""
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that move the cursor, change direction or do not show; data may hold them, a terminal not."""


def cleaned(text: str) -> str:
    """Return a text with everything that a terminal would obey written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if unicodedata.category(each) not in _UNSEEN else each.encode("unicode_escape").decode() for each in text
    )


class Events:
    """Shows events: aligned and coloured in a terminal, otherwise five fields between tabs, or JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._console = Console(highlight=False, soft_wrap=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()

    def show(self, events: Iterable[StoredEvent]) -> None:
        """Show some events, in their order."""
        show = self._as_json if self._json else self._coloured if self._console.is_terminal else self._plain
        for event in events:
            show(event)
        sys.stdout.flush()

    def _as_json(self, event: StoredEvent) -> None:
        sys.stdout.write(_encode(as_object(event)).decode() + "\n")

    def _plain(self, event: StoredEvent) -> None:
        name = event.type if event.version == 1 else f"{event.type} v{event.version}"
        fields = (str(event.position), _time(event.recorded_at), name, " ".join(event.tags), _data(event))
        sys.stdout.write("\t".join(cleaned(field) for field in fields) + "\n")

    def _coloured(self, event: StoredEvent) -> None:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{event.position:>8} ", "bold")
        line.append(f"{event.recorded_at.astimezone():%Y-%m-%d %H:%M:%S} ", "dim")
        line.append(cleaned(event.type), "cyan")
        line.append(f" v{event.version} " if event.version > 1 else " ", "magenta")
        line.append(cleaned(" ".join(event.tags)), "green")
        line.append(f" {cleaned(_data(event))}")
        self._console.print(line, soft_wrap=False)


class Statistics:
    """Counts, bytes and times, in all and by type."""

    def __init__(self, head: int) -> None:
        self.head = head
        self._types: dict[tuple[str, int], _Type] = {}

    def add(self, event: StoredEvent) -> None:
        """Count one more event."""
        key = (event.type, event.version)
        if key not in self._types:
            self._types[key] = _Type(event.type, event.version, first=event.recorded_at)
        found = self._types[key]
        found.events += 1
        found.bytes += len(event.data) + len(event.metadata)
        found.last = event.recorded_at

    def show(self, *, as_json: bool) -> None:
        """Print what was counted."""
        types = sorted(self._types.values(), key=lambda each: (-each.events, each.type, each.version))
        if as_json:
            sys.stdout.write(_encode({"head": self.head, "types": types}).decode() + "\n")
            return
        table = Table(title=f"{sum(each.events for each in types):,} events, head {self.head:,}", title_justify="left")
        for name in ("type", "version", "events", "bytes", "first", "last"):
            table.add_column(name, justify="right" if name in ("version", "events", "bytes") else "left")
        for each in types:
            last = each.last or each.first
            times = (each.first.isoformat(" ", "seconds"), last.isoformat(" ", "seconds"))
            table.add_row(Text(cleaned(each.type)), str(each.version), f"{each.events:,}", f"{each.bytes:,}", *times)
        print_table(table)


class _Type(msgspec.Struct):
    type: str
    version: int
    first: datetime
    events: int = 0
    bytes: int = 0
    last: datetime | None = None


def print_table(table: Table) -> None:
    """Print a table; where nobody sees it, as lines with tabs and a heading."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    sys.stdout.write("\t".join(str(column.header) for column in table.columns) + "\n")
    for row in zip(*columns, strict=True):
        sys.stdout.write("\t".join(row) + "\n")


def print_object(value: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print the fields of a value, one a line."""
    if as_json:
        sys.stdout.write(_encode(value).decode() + "\n")
        return
    table = Table(title=cleaned(title), title_justify="left", show_header=False)
    table.add_column("field", style="cyan")
    table.add_column("value")
    for name, each in value.items():
        text = each if isinstance(each, str) else _encode(each).decode()
        more = f"… ({len(text):,} characters)" if len(text) > LONGEST else ""
        table.add_row(Text(cleaned(name)), Text(f"{cleaned(text[:LONGEST])}{more}"))
    print_table(table)


def as_object(event: StoredEvent) -> dict[str, Any]:
    """Return an event as JSON shows it: data and metadata inlined where they are JSON, else as base64."""
    return {
        "position": event.position,
        "recorded_at": event.recorded_at,
        "type": event.type,
        "version": event.version,
        "tags": event.tags,
        "data": inlined(event.data),
        "metadata": inlined(event.metadata or b"{}"),
    }


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[..., None]]:
    """Show a bar with rate and time left on stderr, if that is a terminal.

    Yields what moves it: `move(done)`, or `move(done, total, what)`.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(what, total=total)

        def move(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield move


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _data(event: StoredEvent) -> str:
    try:
        return event.data.decode()
    except UnicodeDecodeError:
        return f"({len(event.data):,} bytes)"


def inlined(data: bytes) -> Any:
    """Return bytes that stand in JSON as they are, or else as base64."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return data
    return msgspec.Raw(data)
