"""How projections, processes, the outbox and inboxes stand: how far each is, how fast, who runs it, what is wrong."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from refold.model.query import Query
from refold.runtime.books import PARKED, Books, Checkpoint, Comparison, Parked, Status, Version
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.owner import shown
from refold.runtime.react import Kind, Process
from refold.runtime.running import Running
from refold.runtime.upkeep import Upkeep

STALLED_SECONDS = 60.0
"""How long a subscription that is behind may stand still until that is worth saying."""
NOBODY = "nobody runs it"
"""Begins the trouble of what has no owner."""


class Standing(Struct, frozen=True):
    """How a projection, in one of its versions, or a process stands."""

    name: str
    kind: Literal["projection", "outbox", "inbox"] | Kind
    version: str
    """Empty for what is no projection."""
    status: Status
    position: int
    head: int
    events_behind: int
    """Positions between its own and the head; not all of them need be events that it handles."""
    seconds_behind: float
    """How long ago the first event was recorded that it has not handled; 0 if it has handled all."""
    owner: str
    """Host and process that run it; empty if nobody does."""
    parked: int
    """How many events have failed and wait; those that wait behind them are not counted."""
    oldest_parked_seconds: float
    rate: float = 0.0
    """Positions a second: in the last ten seconds, if this process runs it; while it is built, since it was begun."""
    seconds_left: float | None = None
    stage: str = ""
    """What this process is about, while it builds it in the background: building, catching up or comparing."""
    trouble: str = ""
    comparison: Comparison | None = None
    is_held: bool = False
    """Whether it is built, and is switched to when somebody says so."""


class Standings:
    """Tells how everything of an open app stands."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def all(self) -> list[Standing]:
        """Return how every projection, in each of its versions, and every process stands."""
        head = await self._running.store.head()
        kept = [
            await self._standing(upkeep, version, head)
            for upkeep in self._running.upkeeps.values()
            for version in await upkeep.versions.all()
        ]
        outbox = [await self._of_process(OUTBOX, head)] if self._running.outbox else []
        processes = [await self._of_process(name, head) for name in self._running.processes]
        found = [*kept, *processes, *outbox]
        if any(each.position > each.head for each in found):  # perhaps of events that came while it was looked
            head = await self._running.store.head()
            found = [replace(each, head=head) if each.position > each.head else each for each in found]
        return [*found, *[await self._of_inbox(name) for name in self._running.entrances]]

    async def _standing(self, upkeep: Upkeep, version: Version, head: int) -> Standing:
        books, names = upkeep.versions.books, version.subscriptions()
        found = await books.checkpoints(names)
        checkpoints = [found.get(name) or Checkpoint(name) for name in names]
        live = [upkeep.subscriptions[name].position for name in names if name in upkeep.subscriptions]
        position = min(live if len(live) == len(names) else [each.position for each in checkpoints])
        started = version.started_at or datetime.now(UTC)
        rate = position / max((datetime.now(UTC) - started).total_seconds(), 0.001)
        building = version.status == "building"
        rebuilds = self._running.rebuilds
        count, oldest = await _parked(books, names)
        behind = await self._seconds_behind(upkeep.definition.query, position, head)
        return Standing(
            name=version.projection,
            kind="projection",
            version=version.version,
            status=version.status,
            position=position,
            head=head,
            events_behind=max(head - position, 0),
            seconds_behind=behind,
            owner=", ".join(dict.fromkeys(shown(each.owner) for each in checkpoints if each.owner)),
            parked=count,
            oldest_parked_seconds=oldest,
            rate=rate if building else self._running.pace.of(names),
            seconds_left=max(head - position, 0) / rate if building and rate else None,
            stage=rebuilds.stage(version) if building else "",
            trouble=(rebuilds.trouble(version) if building else "") or _trouble(checkpoints, behind),
            comparison=version.comparison,
            is_held=building and version.hold and version.comparison is not None,
        )

    async def _of_process(self, name: str, head: int) -> Standing:
        books, reaction = self._running.books[0], self._running.reactions.get(name)
        checkpoint = await books.checkpoint(name) or Checkpoint(name)
        position = max(reaction.position if reaction else 0, checkpoint.position)
        count, oldest = await _parked(books, [name])
        process = self._running.processes.get(name) or self._running.outbox
        assert process is not None
        behind = await self._seconds_behind(process.query, position, head)
        return Standing(
            name=name,
            kind=process.kind if isinstance(process, Process) else "outbox",
            version="",
            status="active",
            position=position,
            head=head,
            events_behind=max(head - position, 0),
            seconds_behind=behind,
            owner=shown(checkpoint.owner),
            parked=count,
            oldest_parked_seconds=oldest,
            rate=self._running.pace.of([name]),
            trouble=_trouble([checkpoint], behind),
        )

    async def _of_inbox(self, name: str) -> Standing:
        """Tell how what enters stands; its position counts messages, and only the broker knows how many are to come."""
        books = self._running.books[0]
        checkpoint = await books.checkpoint(name) or Checkpoint(name)
        count, oldest = await _parked(books, [name])
        return Standing(
            name=name,
            kind="inbox",
            version="",
            status="active",
            position=checkpoint.position,
            head=checkpoint.position,
            events_behind=0,
            seconds_behind=0.0,
            owner=shown(checkpoint.owner),
            parked=count,
            oldest_parked_seconds=oldest,
            trouble=checkpoint.trouble,
        )

    async def _seconds_behind(self, query: Query, position: int, head: int) -> float:
        """Return the age of the first event that was not handled."""
        if position >= head:
            return 0.0
        async for page in self._running.store.read(query, after=position, limit=1):
            for stored in page:
                return max((datetime.now(UTC) - stored.recorded_at).total_seconds(), 0.0)
        return 0.0


async def _parked(books: Books, subscriptions: Sequence[str]) -> tuple[int, float]:
    """Return how many events have failed and wait, and for how many seconds the oldest of them has."""
    where = {"subscription__in": list(subscriptions), "error__ne": ""}
    if not (count := await books.count(PARKED, where)):
        return 0, 0.0
    oldest: list[Parked] = await books.find(PARKED, where, 1, order="parked_at")
    return count, max((datetime.now(UTC) - row.parked_at).total_seconds() for row in oldest) if oldest else 0.0


def _trouble(checkpoints: Sequence[Checkpoint], seconds_behind: float) -> str:
    for each in checkpoints:
        if each.trouble:
            return each.trouble
        if seconds_behind > STALLED_SECONDS and not shown(each.owner):
            return f"{NOBODY}: start the app, or `refold run`; it stands at position {each.position}"
        stands = (datetime.now(UTC) - each.moved_at).total_seconds() if each.moved_at else 0.0
        if seconds_behind > STALLED_SECONDS and stands > STALLED_SECONDS:
            return f"no progress for {stands:.0f} s, after position {each.position}"
    return ""
