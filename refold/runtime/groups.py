"""Parked events by what went wrong, so that what has one cause is mended as one; and which of them somebody means."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b

from msgspec import Struct

from refold.errors import InvalidQuery
from refold.runtime.books import Parked
from refold.runtime.mend import named

VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
"""What differs from one event to the next in what an error says."""
FRAME = re.compile(r'^  File "(?P<where>[^"]*)", line (?P<line>\d+), in ', re.MULTILINE)


class Group(Struct, frozen=True):
    """Parked events that have failed for one reason, of one projection, process, effect, outbox or inbox."""

    id: str
    """Stays the same as long as the reason does."""
    name: str
    error: str
    """Of the first of them; values in the others may differ."""
    count: int
    behind: int
    """How many wait behind them."""
    since: datetime
    retry_at: datetime | None
    """When the next of them is tried again by itself; None if only when somebody asks."""
    attempts: int
    """The most of one."""
    types: tuple[str, ...]
    positions: tuple[int, ...]


class Which(Struct, frozen=True, forbid_unknown_fields=True):
    """Which parked events are meant: those that meet all that is said."""

    of: str | None = None
    """Of this projection, process, effect, outbox or inbox."""
    group: str | None = None
    """Those that have failed for one reason, by the group's id."""
    positions: tuple[int, ...] = ()
    key: str | None = None
    """Those that hold up this tag: `order:o-1`."""
    all: bool = False
    """Everything that has failed."""

    def check(self) -> None:
        """Refuse to mean everything unless that is said."""
        if not (self.all or self.of or self.group or self.positions or self.key):
            raise InvalidQuery("say which parked events: of, group, positions or key, or all")

    def among(self, parked: Sequence[Parked]) -> list[Parked]:
        """Return those that are meant and have failed; by position also those that wait behind others."""
        return [each for each in parked if self._means(each)]

    def _means(self, parked: Parked) -> bool:
        return (
            (bool(parked.error) or parked.position in self.positions)
            and (self.of is None or self.of == named(parked.subscription))
            and (not self.positions or parked.position in self.positions)
            and (self.key is None or self.key in parked.keys)
            and (self.group is None or self.group == group_of(parked))
        )


def groups(parked: Iterable[Parked]) -> list[Group]:
    """Return parked events by what went wrong, the largest groups first."""
    return [group for group, _ in grouped(parked)]


def grouped(parked: Iterable[Parked]) -> list[tuple[Group, list[Parked]]]:
    """Return each group of parked events, the largest first, with those that have failed."""
    failed: dict[str, list[Parked]] = {}
    behind: dict[tuple[str, str], int] = {}
    for each in parked:
        if each.error:
            failed.setdefault(group_of(each), []).append(each)
        else:
            held = (each.subscription, each.key)
            behind[held] = behind.get(held, 0) + 1
    found = [(_group(number, rows, behind), rows) for number, rows in failed.items()]
    return sorted(found, key=lambda each: (-each[0].count, each[0].name, each[0].error))


def group_of(parked: Parked) -> str:
    """Return the id of the group of what has failed: by whom, where in the code, and saying what."""
    frames = [(each["where"], each["line"]) for each in FRAME.finditer(parked.traceback)]
    said = VALUES.sub("…", parked.error)
    return blake2b(repr((named(parked.subscription), frames[-1:], said)).encode(), digest_size=6).hexdigest()


def _group(number: str, rows: Sequence[Parked], behind: dict[tuple[str, str], int]) -> Group:
    held = {(each.subscription, each.key) for each in rows}
    return Group(
        id=number,
        name=named(rows[0].subscription),
        error=rows[0].error,
        count=len(rows),
        behind=sum(behind.get(each, 0) for each in held),
        since=min(each.parked_at for each in rows),
        retry_at=min((each.retry_at for each in rows if each.retry_at), default=None),
        attempts=max(each.attempts for each in rows),
        types=tuple(sorted({each.type for each in rows})),
        positions=tuple(each.position for each in rows),
    )
