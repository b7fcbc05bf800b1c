"""Effects: what is done in the world because of an event, again until it has worked, and under one key.

An effect begins where the log ended when it was first run: what happened before is history, and replaying history must
not send its mails again. How far it has come is written after each few events, so that a crash repeats only those,
with the same idempotency keys.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from refold.errors import Conflict, Rejected, StoreError, Unavailable, WiringError
from refold.model.handler import Handler, IdempotencyKey, Reader, read_effect
from refold.model.hints import described
from refold.model.message import Event
from refold.model.record import Recorded, StoredEvent
from refold.model.schema import Schema
from refold.model.state import Identity, State
from refold.runtime.books import Parked
from refold.runtime.ids import new_id
from refold.runtime.instruments import ATTEMPTS
from refold.runtime.parking import told
from refold.runtime.react import Kind, Process
from refold.runtime.telemetry import code_of
from refold.view.api import Write

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds until the second attempt, twice as many until each later one, and the most; each time a random part of it."""
BREAK_AFTER = 5
"""After so many different events failed in a row it is not they that are wrong: all wait, and nothing is parked."""
PATIENCE = 3
"""How often all wait because of the same events, until these are parked to see whether others work; twice as often for
the next so many, and so on, so that a world that is away for long has few of them parked."""
REMEMBERED = 4
"""Of how many steps is remembered what was done."""


class Effected(Struct, frozen=True):
    """How an effect is run: see `effect`."""

    function: Callable[..., Any]
    at_once: int = 8
    per_second: float | None = None
    attempts: int = 4
    seconds: float = 30.0
    from_start: bool = False


def effect(
    function: Callable[..., Any],
    *,
    at_once: int = 8,
    per_second: float | None = None,
    attempts: int = 4,
    seconds: float = 30.0,
    from_start: bool = False,
) -> Effected:
    """Say how an effect is run: `effects=[effect(send_mail, per_second=10)]`.

    At most `at_once` run side by side, those of one tag one after the other, and `per_second` are begun. Each may take
    so many `seconds`, and is tried so many times before its event is parked. It begins with what is recorded after it
    was first run, or with the whole log if it is to begin `from_start`.
    """
    return Effected(function, at_once, per_second, attempts, seconds, from_start)


class Effect(Process):
    """Does something in the world for each event, and has the commands executed that come of it."""

    kind: Kind = "effect"

    def __init__(self, given: Callable[..., Any] | Effected, schema: Schema) -> None:
        self.how = given if isinstance(given, Effected) else Effected(given)
        super().__init__(self.how.function, schema)
        self.at_once = self.how.at_once
        for name, value in (("at_once", self.how.at_once), ("attempts", self.how.attempts)):
            if value < 1:
                raise WiringError(f"{described(self.how.function)} has {name}={value}: at least 1 is needed")
        if self.how.seconds <= 0 or (self.how.per_second is not None and self.how.per_second <= 0):
            raise WiringError(f"{described(self.how.function)}: seconds and per_second are above 0")
        self._done: dict[str, list[Any]] = {}
        """What came of those done last, by their keys: a page may be handled again because of another event."""
        self._failing: set[str] = set()
        """The ids of what has failed since anything worked, or all waited."""
        self._held_up: Counter[str] = Counter()
        """How often all waited because of an id, since anything worked."""
        self._given_up: set[str] = set()
        """Those for which all have waited in vain: they are parked, to see whether others work."""
        self._alone = False
        """Whether it does again what was parked: that says nothing of the world."""
        self._next = 0.0
        """When the next may begin, by the clock of the loop."""

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Do again what was parked."""
        self._alone = True
        try:
            return await super().again(stored, parked)
        finally:
            self._alone = False

    async def repeat(self, stored: StoredEvent, reason: str) -> None:
        """Do it for an event for which it may have been done, under another key."""
        for number, recorded in enumerate(self._schema.recorded(stored)):
            await self._react(recorded, f".{number}" if number else "", f"again {reason} {new_id()}")

    async def _call(
        self, recorded: Recorded[Event], states: Mapping[Identity, State], reader: Reader, own_id: str
    ) -> list[Any]:
        if own_id in self._done:
            return self._done[own_id]
        for attempt in range(self.how.attempts):
            await self._permitted()
            try:
                given = await self._try(recorded, states, reader, own_id, attempt)
            except (StoreError, Conflict, Unavailable, WiringError, Rejected):
                raise
            except Exception as error:
                is_last = attempt == self.how.attempts - 1 or own_id in self._given_up
                if not self._alone and own_id not in self._given_up:
                    self._judge(recorded, own_id, error, is_last=is_last)
                if is_last:
                    raise
                pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            else:
                self._failing = set()
                self._held_up.clear()
                self._given_up.clear()
                self._done[own_id] = given
                if len(self._done) > REMEMBERED * self.how.at_once:
                    del self._done[next(iter(self._done))]
                return given
        raise AssertionError("unreachable")

    def _judge(self, recorded: Recorded[Event], own_id: str, error: Exception, *, is_last: bool) -> None:
        """Raise `Unavailable` if it is the world that is wrong, rather than the event."""
        self._failing.add(own_id)
        # Once all have waited, and nothing has worked since, one that fails is reason enough.
        if len(self._failing) < BREAK_AFTER and not (is_last and self._held_up):
            return
        self._held_up.update(self._failing)
        patience = PATIENCE * 2 ** (len(self._given_up) // BREAK_AFTER)
        self._given_up |= {each for each in self._failing if self._held_up[each] >= patience}
        self._failing = set()
        raise Unavailable(
            f"{BREAK_AFTER} different events failed in a row, so that not they are wrong. "
            f"The last one, at position {recorded.position}: {_told(error, self.how.seconds)}"
        ) from error

    async def _try(
        self, recorded: Recorded[Event], states: Mapping[Identity, State], reader: Reader, own_id: str, attempt: int
    ) -> list[Any]:
        """Call the function once, and count how that ended."""
        outcome = "ok"
        try:
            with self._telemetry.span(f"call {self.name}", "client", said={"refold.attempt": attempt + 1}):
                async with asyncio.timeout(self.how.seconds):
                    key = IdempotencyKey(own_id)
                    return await self.handler.call(recorded.event, states, recorded.metadata, reader, key)
        except BaseException as error:
            outcome = code_of(error)
            raise
        finally:
            self._telemetry.figures.count(ATTEMPTS, self.name, outcome)

    async def _permitted(self) -> None:
        """Wait until one more may begin."""
        if self.how.per_second is None:
            return
        now = asyncio.get_running_loop().time()
        begin = max(self._next, now)
        self._next = begin + 1 / self.how.per_second
        await asyncio.sleep(begin - now)

    @staticmethod
    def _read(function: Callable[..., Any]) -> Handler:
        return read_effect(function)


def _told(error: Exception, seconds: float) -> str:
    return f"it took longer than {seconds:g} s" if isinstance(error, TimeoutError) and not str(error) else told(error)
