"""The forms that exported events can have: how they get into a file, and out of it as they were.

Whatever a form cannot say in its own way, such as data that is no JSON, it keeps as bytes; what was written is read
again, and compared, before an export goes on.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from refold.errors import InvalidQuery
from refold.model.record import StoredEvent

FormName: TypeAlias = Literal["jsonl", "parquet", "cloudevents"]
FORMS: tuple[FormName, ...] = get_args(FormName)


class Form(Protocol):
    """How events are written to a file."""

    suffix: str
    """Of its files, with the dot."""
    grows: bool
    """Whether a file can take any number of events; otherwise those of a file are held in memory."""

    def write(self, path: Path, events: Iterable[StoredEvent]) -> None:
        """Add events to a file; raise `StoreError` for one that would not come back as it is."""
        ...

    def read(self, path: Path) -> Iterator[StoredEvent]:
        """Read the events of a file; raise `StoreDamaged` for what is none."""
        ...


def open_form(name: str, source: str = "") -> Form:
    """Return the form of a name; its libraries are imported only then."""
    match name:
        case "jsonl":
            from refold.move.jsonl import Lines

            return Lines()
        case "cloudevents":
            from refold.move.cloudevents import CloudEvents

            return CloudEvents(source)
        case "parquet":
            from refold.move.parquet import Parquet

            return Parquet()
        case _:
            raise InvalidQuery(f"there is no form {name!r} of exported events; there are {', '.join(FORMS)}")
