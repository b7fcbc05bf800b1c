"""The pulse of an app: how everything stands, looked at every few seconds and remembered for some minutes.

The same look sets the gauges that metrics show and gives the diagnoses, so that the console, Prometheus and
`refold doctor` say the same. It costs about what `refold projection list` does, and nothing until somebody asks.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from refold.errors import RefoldError
from refold.runtime.diagnose import Seen
from refold.runtime.instruments import (
    HEAD,
    LAG_EVENTS,
    LAG_SECONDS,
    OVERDUE,
    OWNED,
    PARKED,
    PARKED_SECONDS,
    POSITION,
    READABLE,
    STOPPED,
    TIMERS,
    Figures,
)
from refold.runtime.standing import Standing

logger = logging.getLogger("refold.app")
BEAT_SECONDS = 2.0
MINUTES = 10
BEATS = int(MINUTES * 60 / BEAT_SECONDS)
FRESH_SECONDS = 1.0
"""How old a look may be that is shown again."""


class Beat(Struct, frozen=True, gc=False):
    """How far everything was at a moment."""

    at: float
    """Seconds since 1970."""
    head: int
    behind: Mapping[str, tuple[int, float]]
    """Of each projection and process that is in use: by how many positions, and by how many seconds."""


class Pulse:
    """Looks at an app, and remembers."""

    def __init__(
        self, look: Callable[[], Awaitable[Seen]], head: Callable[[], Awaitable[int]], figures: Figures
    ) -> None:
        self.beats: deque[Beat] = deque(maxlen=BEATS)
        self.seen = Seen()
        """What was seen last."""
        self.head: int | None = None
        """The last position then; None if the log could not be read."""
        self._look = look
        self._head = head
        self._figures = figures
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on looking, until it is stopped."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="refold pulse")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def beat(self) -> Seen:
        """Look, unless somebody just has; return what is seen."""
        async with self._looking:
            if time.monotonic() - self._looked < FRESH_SECONDS:
                return self.seen
            self.seen = await self._look()
            self._looked = time.monotonic()
            try:
                self.head = await self._head()
            except RefoldError:
                self.head = None
            if self.head is None:
                show(self._figures, Seen(), None)
            else:
                self._remember(self.head)
            return self.seen

    def rates(self) -> list[tuple[float, float]]:
        """Return by how many positions a second the log grew between each two looks, and when that was."""
        pairs = zip(self.beats, list(self.beats)[1:], strict=False)
        return [(b.at, max(b.head - a.head, 0) / max(b.at - a.at, 0.001)) for a, b in pairs]

    def _remember(self, head: int) -> None:
        behind = {each.name: (each.events_behind, each.seconds_behind) for each in in_use(self.seen.standing)}
        if not self.beats or time.time() - self.beats[-1].at >= BEAT_SECONDS / 2:
            self.beats.append(Beat(time.time(), head, behind))
        show(self._figures, self.seen, head)

    async def _run(self) -> None:
        while True:
            try:
                await self.beat()
            except Exception:
                logger.exception("how the app stands could not be seen")
                show(self._figures, Seen(), None)
            await asyncio.sleep(BEAT_SECONDS)


def in_use(standing: Sequence[Standing]) -> list[Standing]:
    """Return what is in use: of each projection the version that is read."""
    return [each for each in standing if each.status == "active"]


def show(figures: Figures, seen: Seen, head: int | None) -> None:
    """Set the gauges; without a head there is nothing to be known of the log."""
    used = in_use(seen.standing)
    figures.show(READABLE, {(): float(head is not None)})
    figures.show(HEAD, {} if head is None else {(): head})
    figures.show(POSITION, {(each.name,): each.position for each in used})
    figures.show(LAG_EVENTS, {(each.name,): each.events_behind for each in used})
    figures.show(LAG_SECONDS, {(each.name,): each.seconds_behind for each in used})
    figures.show(OWNED, {(each.name,): float(bool(each.owner)) for each in used})
    figures.show(STOPPED, {(each.name,): float(each.name in seen.stopped) for each in used})
    figures.show(PARKED, {(each.name,): each.parked for each in used})
    figures.show(PARKED_SECONDS, {(each.name,): each.oldest_parked_seconds for each in used})
    processes = [each.name for each in used if each.kind == "process"]
    none: dict[tuple[str, ...], float] = {(name,): 0 for name in processes}
    figures.show(TIMERS, none | {(each.process,): each.timers for each in seen.pending})
    figures.show(OVERDUE, none | {(each.process,): each.stuck for each in seen.pending})
