"""Tests of decisions in one line: given what happened, when a command is decided, then these events, or a refusal.

    given(CourseDefined("c1", 1)).when(subscribe, Subscribe("s1", "c1")).then(Subscribed("s1", "c1"))

No store, no app, no event loop: the states that a decision asks for are folded from the given events alone.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any, Concatenate, TypeAlias, TypeVar, cast

from msgspec.structs import replace

from refold.errors import Rejected, WiringError
from refold.model.handler import read_decision
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.record import UNSAID, Metadata, Recorded
from refold.model.state import State, state_kind
from refold.model.tag import tags_of

C = TypeVar("C", bound=Command)
S = TypeVar("S", bound=State)
T = TypeVar("T")

Past: TypeAlias = Event | tuple[Event, datetime | timedelta] | Recorded[Event]
"""An event; with the time when it occurred, or how long ago; or with all its metadata."""

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When decisions are made, and events occurred, if a test does not say."""


class given:  # noqa: N801 - it reads as a word of the sentence
    """What happened before, in order."""

    def __init__(self, *events: Past, now: datetime = NOW) -> None:
        self.now = now
        self.events: tuple[Recorded[Event], ...] = tuple(self._recorded(events))

    def load(self, state: S) -> S:
        """Return a state, named by its key, as the given events make it."""
        return state.fold(self.events)

    def when(
        self, decision: Callable[Concatenate[C, ...], object], command: C, metadata: Metadata | None = None
    ) -> "Outcome":
        """Decide a command; `metadata` is what the decision sees of its own, at `now` if it says no time."""
        handler = read_decision(decision)
        if type(command) not in handler.messages:
            raise WiringError(f"{described(decision)} does not take {command!r}")
        own = metadata or Metadata()
        if own.occurred_at is UNSAID:
            own = replace(own, occurred_at=self.now)
        states = [state for _, asked in handler.states(command) for state in asked]
        loaded = {state_kind(type(state)).identity(state): self.load(state) for state in states}
        said = f"{handler.name}({command!r})"
        try:
            return Outcome(self, said, events=tuple(_run(handler.call(command, loaded, own, _Reader(self)), said)))
        except Rejected as refusal:
            return Outcome(self, said, refusal=refusal)

    def _recorded(self, events: Sequence[Past]) -> Iterator[Recorded[Event]]:
        for position, each in enumerate(events, 1):
            if isinstance(each, Recorded):
                yield each
                continue
            event, time = each if isinstance(each, tuple) else (each, self.now)
            occurred_at = self.now - time if isinstance(time, timedelta) else time
            yield Recorded(position, self.now, event, Metadata(occurred_at=occurred_at), tags_of(event))


class Outcome:
    """What a decision gave: events, or a refusal."""

    def __init__(
        self, before: given, said: str, *, events: tuple[Event, ...] = (), refusal: Rejected | None = None
    ) -> None:
        self.events = events
        self.refusal = refusal
        self._before = before
        self._said = said

    def then(self, *events: Event) -> given:
        """Assert that exactly these events came, in this order; return what is given now, to go on from."""
        __tracebackhide__ = True
        if self.refusal is not None or self.events != events:
            self._fail([repr(each) for each in events] or ["no events"])
        return given(*self._before.events, *events, now=self._before.now)

    def rejected(self, reason: str | type[Rejected]) -> given:
        """Assert that the command was refused, with this message or for a reason of this class."""
        __tracebackhide__ = True
        refusal = self.refusal
        expected = reason if isinstance(reason, str) else reason.__name__
        if refusal is None or not (str(refusal) == reason if isinstance(reason, str) else isinstance(refusal, reason)):
            self._fail([f"rejected: {expected}"])
        return self._before

    def _fail(self, expected: list[str]) -> None:
        __tracebackhide__ = True
        got = [repr(each) for each in self.events] or ["no events"]
        if self.refusal is not None:
            got = [f"rejected: {self.refusal} ({type(self.refusal).__name__})"]
        past = [_told(each, self._before.now) for each in self._before.events] or ["nothing"]
        parts = {"given": past, "when": [self._said], "expected": expected, "got": got}
        rows = [row for name, lines in parts.items() for row in zip_longest([name], lines, fillvalue="")]
        raise AssertionError("\n".join(["", *(f"{name:<10}{line}" for name, line in rows)]))


class _Reader:
    def __init__(self, before: given) -> None:
        self._before = before

    async def load(self, state: S) -> S:
        return self._before.load(state)


def _told(recorded: Recorded[Event], now: datetime) -> str:
    ago = now - recorded.occurred_at
    if not ago:
        return repr(recorded.event)
    return f"{recorded.event!r}, {ago} ago" if ago > timedelta(0) else f"{recorded.event!r}, {-ago} ahead"


def _run(coroutine: Coroutine[Any, Any, T], said: str) -> T:
    """Run what waits for nothing; a test may itself be async, so there may be a loop that this must not need."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    coroutine.close()
    raise WiringError(f"{said} waited for something other than its Reader; decisions do no I/O")
