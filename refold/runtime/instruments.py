"""What is measured: a table, and one object of an app that keeps its figures, from which every outlet reads.

Names and units are OpenTelemetry's; Prometheus has them as OpenTelemetry translates them: `refold.command.duration` in
seconds is `refold_command_duration_seconds` there. Labels have few values, which the program bounds: names of its
classes and functions, and codes. No id, tag or text of an event is ever one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[str, ...]
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: up to where each bucket of a histogram counts."""


class Instrument:
    """Something that is measured, compared by identity, since it is looked up with each measurement."""

    def __init__(self, kind: Kind, name: str, unit: str, about: str, *labels: str) -> None:
        self.kind: Kind = kind
        self.name = name
        self.unit = unit
        """In UCUM: `s` for seconds, a word in braces for what is counted."""
        self.about = about
        self.labels = labels


class Spread:
    """How long things took: how many up to each bound, and all together."""

    __slots__ = ("counts", "labels", "total")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """In each bucket; the last one has no bound."""
        self.total = 0.0
        self.labels = labels

    def record(self, seconds: float) -> None:
        """Note one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


COMMANDS = Instrument("counter", "refold.commands", "{command}", "Commands, by how they ended.", "command", "outcome")
COMMAND_SECONDS = Instrument(
    "histogram", "refold.command.duration", "s", "From the call of a command to its answer.", "command"
)
CONFLICTS = Instrument(
    "counter", "refold.conflicts", "{attempt}", "Attempts that others overtook, and that were repeated.", "decision"
)
APPENDS = Instrument("counter", "refold.appends", "{append}", "Batches that this program appended to the log.")
EVENTS = Instrument("counter", "refold.events", "{event}", "Events that this program appended.", "type")
HANDLED = Instrument(
    "counter", "refold.subscription.handled", "{event}", "Events given to a projection or process.", "subscription"
)
HANDLE_SECONDS = Instrument(
    "histogram", "refold.subscription.batch.duration", "s", "Handling one batch of events.", "subscription"
)
WRITING_SECONDS = Instrument(
    "histogram",
    "refold.subscription.write.duration",
    "s",
    "Writing what a batch changed, with the checkpoint.",
    "subscription",
)
PAUSES = Instrument(
    "counter", "refold.subscription.pauses", "{pause}", "Waits because something was away.", "subscription", "code"
)
FAILED = Instrument(
    "counter", "refold.subscription.failed", "{event}", "Events that failed, and were parked.", "subscription"
)
ATTEMPTS = Instrument("counter", "refold.effect.attempts", "{attempt}", "Attempts of an effect.", "effect", "outcome")
PUBLISHED = Instrument("counter", "refold.outbox.published", "{message}", "Messages that the broker has confirmed.")
RECEIVED = Instrument("counter", "refold.inbox.received", "{message}", "Messages that came in.", "context")
REQUEST_SECONDS = Instrument(
    "histogram",
    "http.server.request.duration",
    "s",
    "Answering a request; of a stream, until it begins.",
    "http.request.method",
    "http.route",
    "http.response.status_code",
)
STREAMS = Instrument("gauge", "refold.http.streams", "{stream}", "Streams that are open.")
READABLE = Instrument("gauge", "refold.log.readable", "1", "1 if the log can be read, else 0.")
HEAD = Instrument("gauge", "refold.log.head", "{position}", "The last position of the log.")
POSITION = Instrument(
    "gauge", "refold.subscription.position", "{position}", "Up to where everything is handled.", "subscription"
)
LAG_EVENTS = Instrument(
    "gauge", "refold.subscription.lag.events", "{position}", "Positions between its own and the head.", "subscription"
)
LAG_SECONDS = Instrument(
    "gauge",
    "refold.subscription.lag",
    "s",
    "How long ago the first event was recorded that is not handled.",
    "subscription",
)
OWNED = Instrument("gauge", "refold.subscription.owned", "1", "1 if a program runs it, else 0.", "subscription")
STOPPED = Instrument(
    "gauge", "refold.subscription.stopped", "1", "1 if it has stopped for good here, else 0.", "subscription"
)
PARKED = Instrument("gauge", "refold.parked", "{event}", "Events that have failed, and wait.", "subscription")
PARKED_SECONDS = Instrument(
    "gauge", "refold.parked.oldest", "s", "How long the oldest of them has waited.", "subscription"
)
TIMERS = Instrument("gauge", "refold.timers", "{timer}", "Timers that are set.", "process")
OVERDUE = Instrument("gauge", "refold.timers.overdue", "{timer}", "Timers that are not executed in time.", "process")
INSTRUMENTS = (
    *(COMMANDS, COMMAND_SECONDS, CONFLICTS, APPENDS, EVENTS),
    *(HANDLED, HANDLE_SECONDS, WRITING_SECONDS, PAUSES, FAILED, ATTEMPTS, PUBLISHED, RECEIVED),
    *(REQUEST_SECONDS, STREAMS),
    *(READABLE, HEAD, POSITION, LAG_EVENTS, LAG_SECONDS, OWNED, STOPPED, PARKED, PARKED_SECONDS, TIMERS, OVERDUE),
)


class Figures:
    """What was measured so far."""

    def __init__(self) -> None:
        self._values: dict[tuple[Instrument, Labels], float] = {}
        self._spreads: dict[tuple[Instrument, Labels], Spread] = {}
        self.also: Callable[[Instrument, Spread, float], None] | None = None
        """Is told of every duration, for an outlet that keeps spreads of its own."""

    def count(self, what: Instrument, *labels: str, by: float = 1) -> None:
        """Add to a counter, or to a gauge that goes up and down."""
        key = (what, labels)
        self._values[key] = self._values.get(key, 0) + by

    def time(self, what: Instrument, *labels: str, seconds: float) -> None:
        """Note how long something took."""
        key = (what, labels)
        spread = self._spreads.get(key)
        if spread is None:
            spread = self._spreads[key] = Spread(dict(zip(what.labels, labels, strict=True)))
        spread.record(seconds)
        if self.also is not None:
            self.also(what, spread, seconds)

    def show(self, what: Instrument, values: Mapping[Labels, float]) -> None:
        """Set all values of a gauge; those that are not named are gone."""
        for key in [key for key in self._values if key[0] is what and key[1] not in values]:
            del self._values[key]
        for labels, value in values.items():
            self._values[what, labels] = value

    def values(self, what: Instrument) -> Iterator[tuple[Labels, float]]:
        """Give the values of a counter or gauge."""
        return ((labels, value) for (each, labels), value in list(self._values.items()) if each is what)

    def spreads(self, what: Instrument) -> Iterator[tuple[Labels, Spread]]:
        """Give the spreads of a histogram."""
        return ((labels, spread) for (each, labels), spread in list(self._spreads.items()) if each is what)
