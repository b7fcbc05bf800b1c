"""Carrying over how far what follows a log has come, to the log's copy in another store.

Views are made anew from the copy. But a process that began at its start again would give each of its commands once
more, an outbox would publish all anew, and timers would be forgotten. So their rows are taken along, with the
positions that the map gives.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import StoreError
from refold.move.positions import read_positions
from refold.runtime.books import (
    CHECKPOINTS,
    FORGOTTEN,
    MESSAGES,
    PARKED,
    RECEIVED,
    SKIPPED,
    TIMERS,
    Books,
    Checkpoint,
    Forgotten,
    Kept,
    Parked,
    Received,
    Skipped,
    Timer,
)
from refold.runtime.owner import is_gone
from refold.store.api import Store
from refold.view.api import Expect, Put
from refold.view.open import open_views
from refold.view.table import Table

ROWS = 1_000
INBOX = "inbox."
"""Begins the names of subscriptions whose positions count messages of others, not events."""


class Carried(Struct, frozen=True):
    """What was carried over."""

    checkpoints: dict[str, int]
    """Where each process, effect, outbox and inbox goes on."""
    timers: int = 0
    parked: int = 0
    lost: int = 0
    """Parked events that are not in the copy."""
    received: int = 0
    """Ids of messages that do not come in again."""


async def carry(source: Store, target: Store, positions: Path | str) -> Carried:
    """Take over checkpoints, timers, what is parked, and what came in, from one log's database to its copy's.

    The map of positions is the one that the copy was made with. Raises `StoreError`, having changed nothing, if an
    app runs on the source, or one has begun on the target.
    """
    old, new = Books(open_views(source)), Books(open_views(target))
    await old.open()
    await new.open()
    checkpoints: list[Checkpoint] = [row for row in await old.find(CHECKPOINTS) if "@" not in row.subscription]
    running = [row.subscription for row in checkpoints if row.owner and not is_gone(row.owner)]
    if running:
        raise StoreError(f"{running[0]} is run by an app on the source: stop that first, or it goes on in both logs")
    names = [row.subscription for row in checkpoints]
    begun = await new.checkpoints(names)
    if begun:
        raise StoreError(f"{min(begun)} has begun on the target already: carry over before an app is started there")
    timers: list[Timer] = await old.find(TIMERS)
    parked: list[Parked] = [row for row in await old.find(PARKED) if row.subscription in names]
    skipped: list[Skipped] = [row for row in await old.find(SKIPPED) if row.subscription in names]
    rows: list[Checkpoint | Parked | Skipped] = [*checkpoints, *parked, *skipped]
    followed = [row for row in rows if not _enters(row.subscription)]
    place = _Places(Path(positions), {row.position for row in (*followed, *timers)})
    moved = [place.of(row) for row in (*parked, *skipped)]
    await _put(new, TIMERS, [replace(row, position=place.upto[row.position]) for row in timers])
    await _put(new, PARKED, [row for row in moved if isinstance(row, Parked)])
    await _put(new, SKIPPED, [row for row in moved if isinstance(row, Skipped)])
    received = sum([await _carry_received(old, new, name.removeprefix(INBOX)) for name in names if _enters(name)])
    free = [replace(place.checkpoint(row), owner="", epoch=0, beat=0) for row in checkpoints]
    writes = [Put(CHECKPOINTS, free)] if free else []
    if not await new.write(*writes, expects=[Expect(CHECKPOINTS, (name,)) for name in names]):
        raise StoreError("an app was started on the target meanwhile: stop it, and see what it has done")
    kept = [row for row in moved if isinstance(row, Parked)]
    return Carried(
        {row.subscription: row.position for row in free}, len(timers), len(kept), len(parked) - len(kept), received
    )


class _Places:
    """Where some positions of one log are in another: of the event itself, and of all up to it."""

    def __init__(self, path: Path, wanted: Collection[int]) -> None:
        self.exact: dict[int, int] = {}
        self.upto: dict[int, int] = {}
        waiting = sorted(wanted, reverse=True)
        last = 0
        for old, new in read_positions(path):
            while waiting and waiting[-1] < old:
                self.upto[waiting.pop()] = last
            if new is not None:
                last = new
                if waiting and waiting[-1] == old:
                    self.exact.setdefault(old, new)
        self.upto.update(dict.fromkeys(waiting, last))

    def checkpoint(self, row: Checkpoint) -> Checkpoint:
        """Return a checkpoint as it is in the other log."""
        return row if _enters(row.subscription) else replace(row, position=self.upto[row.position])

    def of(self, row: Any) -> Any:
        """Return what is parked or skipped as it is in the other log; None if its event is not there."""
        if _enters(row.subscription):
            return row
        new = self.exact.get(row.position)
        return None if new is None else replace(row, position=new)


def _enters(subscription: str) -> bool:
    return subscription.startswith(INBOX)


async def _carry_received(old: Books, new: Books, context: str) -> int:
    """Take over which messages of a context have come in, and those that are parked."""
    messages: list[Kept] = await old.find(MESSAGES, {"context": context})
    forgotten: list[Forgotten] = await old.find(FORGOTTEN, {"context": context})
    await _put(new, MESSAGES, messages)
    await _put(new, FORGOTTEN, forgotten)
    count, last = 0, ""
    while True:
        rows: list[Received] = await old.find(RECEIVED, {"context": context, "id__gt": last}, ROWS)
        if not rows:
            return count
        await _put(new, RECEIVED, rows)
        count, last = count + len(rows), rows[-1].id


async def _put(books: Books, table: Table, rows: Sequence[Any]) -> None:
    for start in range(0, len(rows), ROWS):
        await books.write(Put(table, rows[start : start + ROWS]))
