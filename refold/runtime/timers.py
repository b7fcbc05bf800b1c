"""Timers: commands that processes have asked to be executed later.

A timer is a row, written in one step with the checkpoint of the process that asked for it: if the event is handled,
the timer is there. The owner of the process executes it when it is due, under an id of its own, and then removes the
row; so it is done once in effect, whoever owns the process by then. Events that were recorded before a timer was due
are handled before it is executed: a payment that came in time cancels what was to happen without it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from refold.errors import Conflict, StoreError, SubscriptionFailed, WiringError
from refold.model.message import Command
from refold.model.record import Recorded, StoredEvent
from refold.model.timer import Later
from refold.runtime.books import TIMER, TIMERS, Books, Parked, Timer
from refold.runtime.execute import Context
from refold.runtime.parking import Parking
from refold.runtime.turns import in_turn
from refold.store.api import Clock
from refold.view.api import Delete, Put, Write

MOST = 1000
"""How many timers are executed before their rows are removed."""


class Timers:
    """The timers of one process."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._commands: Mapping[str, type[Command]] = {}
        self._execute: Callable[[Command, Context], Awaitable[int]] | None = None
        self._clock: Clock | None = None
        self._books: Books | None = None
        self._changed: dict[str, Timer | None] = {}
        """What is not written yet, by name; None for what is cancelled."""
        self._due: datetime | None = None

    def act_through(
        self,
        books: Books,
        commands: Mapping[str, type[Command]],
        execute: Callable[[Command, Context], Awaitable[int]],
        clock: Clock,
    ) -> None:
        """Say where they are kept, which commands there are, what executes them, and what the time is."""
        self._books, self._commands, self._execute, self._clock = books, commands, execute, clock

    @property
    def due(self) -> datetime | None:
        """When the next one is due; None if there is none."""
        return self._due

    def seconds(self) -> float | None:
        """Return in how many seconds the next one is due."""
        if self._due is None or self._clock is None:
            return None
        return max((self._due - self._clock()).total_seconds(), 0.0)

    async def load(self) -> None:
        """Learn when the next one is due."""
        self._changed = {}
        [*first] = await self._find({}, 1)
        self._due = first[0].due if first else None

    def set(self, later: Later, recorded: Recorded[Any], context: Context) -> None:
        """Note a timer that an event has led to; it is kept when `take` is written."""
        command = later.command
        if self._commands.get(type(command).__name__) is not type(command):
            raise WiringError(f"no decision takes {type(command).__name__}, which is asked for later: add one")
        data = msgspec.json.encode(command)
        if msgspec.json.decode(data, type=type(command)) != command:
            raise WiringError(f"{command!r} is not the same once it was written and read; it cannot wait for its time")
        due = later.when or recorded.occurred_at + (later.after or timedelta())
        name = later.name or str(context.id)
        self._changed[name] = Timer(
            process=self._process,
            name=name,
            id=str(context.id),
            position=recorded.position,
            key=recorded.tags[0] if recorded.tags else "",
            command=type(command).__name__,
            data=data,
            due=due,
            set_at=recorded.recorded_at,
            actor=context.actor,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            imported=context.occurred_at is not None,
        )
        if self._due is None or due < self._due:
            self._due = due

    def cancel(self, name: str) -> None:
        """Note that a timer is not wanted any more."""
        self._changed[name] = None

    def take(self) -> list[Write]:
        """Return what is to be written of the timers set and cancelled."""
        changed, self._changed = self._changed, {}
        put = [timer for timer in changed.values() if timer is not None]
        gone = [(self._process, name) for name, timer in changed.items() if timer is None]
        return [*([Put(TIMERS, put)] if put else ()), *([Delete(TIMERS, gone)] if gone else ())]

    def forget(self) -> None:
        """Forget what is not written."""
        self._changed = {}

    async def fire(self, parking: Parking, upto: int) -> list[Write]:
        """Execute those that are due, in their order for each key, after the events up to a position; return what is
        to be written then. One that fails is parked, and so is one of a key that waits already.
        """  # noqa: D205
        assert self._clock is not None
        timers = await self._find({"due__le": self._clock()}, MOST)
        done: list[tuple[str, str]] = []
        parked: list[Timer] = []

        async def run(timer: Timer) -> None:
            key = (timer.key,) if timer.key else ()
            keys = (*key, f"{TIMER}{timer.name}")
            if parking.holds(key):
                parking.wait(_stored(timer, upto), keys)
                parked.append(replace(timer, parked=True))
                return
            try:
                await self._run(timer)
            except (StoreError, Conflict):
                raise
            except Exception as error:
                parking.fail(_stored(timer, upto), keys, error)
                parked.append(replace(timer, parked=True))
            else:
                done.append((timer.process, timer.name))

        await in_turn([((timer.key,) if timer.key else (), partial(run, timer)) for timer in timers])
        if len(timers) == MOST:  # there may be more that are due: they are found when these are gone
            self._due = timers[-1].due
            return self._after(done, parked)
        rest = await self._find({}, len(timers) + 1)
        gone = {*done, *((each.process, each.name) for each in parked)}
        self._due = min((each.due for each in rest if (each.process, each.name) not in gone), default=None)
        return self._after(done, parked)

    @staticmethod
    def _after(done: Sequence[tuple[str, str]], parked: Sequence[Timer]) -> list[Write]:
        return [*([Delete(TIMERS, done)] if done else ()), *([Put(TIMERS, parked)] if parked else ())]

    async def again(self, parked: Parked) -> list[Write]:
        """Execute one that was parked, if it is still wanted; return what is to be written then."""
        assert self._books is not None
        key = (self._process, parked.timer)
        timer: Timer | None = (await self._books.views.get(TIMERS, [key])).get(key)
        if timer is None or not timer.parked:
            return []
        await self._run(timer)
        return [Delete(TIMERS, [key])]

    def command_of(self, timer: Timer) -> Command | str:
        """Return what a timer executes; its name alone if that cannot be read any more."""
        kind = self._commands.get(timer.command)
        try:
            return timer.command if kind is None else msgspec.json.decode(timer.data, type=kind)
        except msgspec.DecodeError:
            return timer.command

    async def _run(self, timer: Timer) -> None:
        assert self._execute is not None
        kind = self._commands.get(timer.command)
        if kind is None:
            raise SubscriptionFailed(f"no decision takes {timer.command} any more, which was asked for: add one again")
        command = msgspec.json.decode(timer.data, type=kind)
        context = Context(
            id=timer.id,
            actor=timer.actor,
            occurred_at=timer.due if timer.imported else None,
            correlation_id=timer.correlation_id,
            causation_id=timer.causation_id,
            giver="timer",
        )
        await self._execute(command, context)

    async def _find(self, where: dict[str, Any], limit: int) -> list[Timer]:
        assert self._books is not None
        mine = {"process": self._process, "parked": False, **where}
        return await self._books.find(TIMERS, mine, limit, order="due")


def _stored(timer: Timer, position: int) -> StoredEvent:
    """Return a timer as what parks it knows events."""
    return StoredEvent(position, timer.due, timer.command, 1, (timer.key,), timer.data, b"")
