"""Replaying a history: its commands in time order, many side by side, what is refused counted, nothing done twice."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import chain, groupby, takewhile
from typing import Annotated, Any, Self, TypeAlias

import msgspec
from msgspec import Struct

from refold import App, Command, Event, Rejected, State, Tag

AT_ONCE = 64
"""Lanes at work; commands that come together share a commit."""

Reason: TypeAlias = Annotated[str, Tag("reason")]


class MisfitFound(Event):
    """Something in the data did not fit: the domain refused it, or took it although it looks wrong."""

    about: Annotated[str, Tag("about")]  # the order or account
    reason: Reason
    refused: bool = False


class BatchReplayed(Event):
    batch: Annotated[str, Tag("batch")]


class Batch(State):
    """Whether a batch, known by a digest of its steps, has been replayed."""

    batch: Annotated[str, Tag("batch")]
    done: bool = False

    def evolve(self, event: BatchReplayed) -> Self:
        return self.replace(done=True)


class MisfitSummary(State):
    """How often something did not fit."""

    reason: Reason
    refused: int = 0
    taken: int = 0

    def evolve(self, event: MisfitFound) -> Self:
        return self.replace(refused=self.refused + event.refused, taken=self.taken + (not event.refused))


class Step(Struct, frozen=True):
    """One thing to do. Steps about the same thing are done one after the other."""

    id: str
    about: str
    at: datetime
    what: Command | MisfitFound


async def replay(
    app: App,
    stages: Iterable[Iterable[Step]],
    *,
    span: timedelta,
    opening: tuple[type[Command], ...] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Do the steps, stage by stage, a span of time after the other; what was done in an earlier run is passed over.

    In each span, the commands in `opening` with which things begin come first, and what processes make of them
    is awaited, so that a run always comes to the same end.
    """
    for batch in chain.from_iterable(batches(stage, span) for stage in stages):
        name = digest(batch)
        if (await app.load(Batch(name))).done:
            advance(len(batch))
            continue
        lanes = in_lanes(batch)
        openings = [
            list(takewhile(lambda step: isinstance(step.what, (*opening, MisfitFound)), lane)) for lane in lanes
        ]
        await run(app, openings, advance)
        await app.settle()
        await run(app, [lane[len(done) :] for lane, done in zip(lanes, openings, strict=True)], advance)
        await app.record(BatchReplayed(name), id=f"batch/{name}")


def batches(steps: Iterable[Step], span: timedelta) -> Iterator[list[Step]]:
    """Put steps in the order of time, and cut them into spans."""
    ordered = sorted(steps, key=lambda step: step.at)
    for _, batch in groupby(ordered, key=lambda step: (step.at - ordered[0].at) // span):
        yield list(batch)


def in_lanes(steps: Iterable[Step]) -> list[list[Step]]:
    """Put the steps about the same thing together."""
    lanes: dict[str, list[Step]] = {}
    for step in steps:
        lanes.setdefault(step.about, []).append(step)
    return list(lanes.values())


def digest(steps: Iterable[Step]) -> str:
    """Return a short text that changes with any of the steps."""
    found: list[Any] = [(step.id, step.at, type(step.what).__name__, step.what) for step in steps]
    return sha256(msgspec.json.encode(found)).hexdigest()[:20]


async def run(app: App, lanes: Iterable[list[Step]], advance: Callable[[int], None]) -> None:
    """Do the steps of each lane in order, the lanes side by side."""
    waiting = iter(lanes)

    async def work() -> None:
        for lane in waiting:
            for step in lane:
                await do(app, step)
                advance(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def do(app: App, step: Step) -> None:
    """Execute a command or record a misfit; a refusal is recorded under the id of the command, which settles it."""
    if isinstance(step.what, MisfitFound):
        await app.record(step.what, id=step.id, occurred_at=step.at)
        return
    try:
        await app.execute(step.what, id=step.id, occurred_at=step.at)
    except Rejected as refusal:
        await app.record(MisfitFound(step.about, str(refusal), refused=True), id=step.id, occurred_at=step.at)
