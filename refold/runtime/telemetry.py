"""What an app tells of itself while it works: figures and spans, in OpenTelemetry too where that is installed.

The figures are always kept, in dictionaries: `GET /metrics` and the console read them there. Spans, and figures for
OpenTelemetry, are made only if the program has set up a provider before it opens the app; otherwise a span is one
object that does nothing. `pip install refold[otel]` installs the API of OpenTelemetry; an SDK is the program's choice.

How spans hang together across the log is told in docs/decisions/0027-telemetry.md.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from refold.errors import RefoldError, Rejected
from refold.model.record import StoredEvent
from refold.runtime.instruments import BOUNDS, INSTRUMENTS, Figures, Instrument, Spread

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.trace import Link, Span, Tracer

Kind: TypeAlias = Literal["internal", "client", "server", "producer", "consumer"]
SCOPE = "refold"
MOST_LINKS = 128
"""How many links a span may have: what OpenTelemetry allows unless it is told otherwise."""
TRACEPARENT = re.compile(rb'"traceparent":"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})"')
TRACE = slice(3, 35)
"""Where a `traceparent` has the id of the trace."""
IN_HEADERS = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
HAS_OPENTELEMETRY = find_spec("opentelemetry") is not None


class Spanning(Protocol):
    """What is under way, as far as it is told."""

    def say(self, name: str, value: str | int | float | bool) -> None:
        """Add an attribute."""
        ...

    def fail(self, code: str) -> None:
        """Say that it failed, and what that is called."""
        ...


class Unspanned:
    """What is told to nobody."""

    def say(self, name: str, value: str | int | float | bool) -> None:
        """Add nothing."""

    def fail(self, code: str) -> None:
        """Say nothing."""

    def __enter__(self) -> "Unspanned":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass


NOWHERE = Unspanned()


class Telemetry:
    """What one app tells of itself."""

    def __init__(self, app: str) -> None:
        self.app = app
        """The name of the app; empty if it has none."""
        self.worker = ""
        """Which of several processes that serve the app this is; empty if it is the only one."""
        self.figures = Figures()
        self._tracer: Tracer | None = None
        self._exports = False

    def begin(self) -> None:
        """Look where spans and figures are to go; an app does so when it is opened."""
        if not HAS_OPENTELEMETRY:
            return
        from opentelemetry import metrics, trace

        # What the API itself provides leads nowhere, until somebody sets another.
        traces, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
        self._tracer = trace.get_tracer(SCOPE) if _leads_somewhere(traces) else None
        if _leads_somewhere(meters) and not self._exports:
            self._exports = True
            _export(self)

    @property
    def traces(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    @property
    def exports(self) -> bool:
        """Whether figures go to OpenTelemetry."""
        return self._exports

    def about(self, **said: str | int) -> dict[str, str | int]:
        """Return what a log record is about, as its `extra`."""
        return {"app": self.app, **said}

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        *,
        parent: str = "",
        links: Sequence[str] = (),
        said: Mapping[str, str | int | float | bool] | None = None,
    ) -> AbstractContextManager[Spanning]:
        """Begin a span, which ends with the block; what fails in it is named by its code, never by its text.

        Its parent is what is under way, unless one is given as a `traceparent`.
        """
        if self._tracer is None:
            return NOWHERE
        return _Spanned(self._tracer, name, kind, parent, links, {"refold.app": self.app, **(said or {})})

    def span_of(
        self, events: Iterable[StoredEvent], name: str, kind: Kind, said: Mapping[str, str | int | float | bool]
    ) -> AbstractContextManager[Spanning]:
        """Begin the span of a batch: in the trace of its events if they share one, else with links to theirs."""
        if self._tracer is None:
            return NOWHERE
        batch = list(events)
        found = traceparents(batch)
        parent = found[0] if len({each[TRACE] for each in found}) == 1 else ""
        more = {"messaging.batch.message_count": len(batch), **said}
        return self.span(name, kind, parent=parent, links=found[1:] if parent else found, said=more)

    def traceparent(self) -> str:
        """Return what is under way as a header of W3C Trace Context; empty if nothing is traced."""
        if self._tracer is None:
            return ""
        from opentelemetry.trace import get_current_span

        found = get_current_span().get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}" if found.is_valid else ""


def code_of(error: BaseException) -> str:
    """Return what an error is called in figures, spans and logs: its code, or the name of its class."""
    return error.code if isinstance(error, RefoldError) else type(error).__name__


def reading(verb: str, subscription: str) -> dict[str, str | int | float | bool]:
    """Return how OpenTelemetry tells of reading messages, the log being what they are read from."""
    return {
        "messaging.system": "refold",
        "messaging.operation.name": verb,
        "messaging.operation.type": "process",
        "messaging.destination.subscription.name": subscription,
    }


def exchanging(bus: object, topic: str, verb: str) -> dict[str, str | int | float | bool]:
    """Return how OpenTelemetry tells of what goes to a broker, or comes from it."""
    return {
        "messaging.system": type(bus).__module__.rpartition(".")[2],  # as the files of refold/bus are called
        "messaging.operation.name": verb,
        "messaging.operation.type": verb,
        "messaging.destination.name": topic,
    }


def traceparents(events: Iterable[StoredEvent]) -> list[str]:
    """Return the spans in which events were recorded, each once, up to as many as one span may have links to."""
    found: dict[str, None] = {}
    for each in events:
        if said := TRACEPARENT.search(each.metadata):
            found[said[1].decode()] = None
            if len(found) == MOST_LINKS:
                break
    return list(found)


class _Spanned:
    """A span that is made current, and ended."""

    def __init__(
        self, tracer: "Tracer", name: str, kind: Kind, parent: str, links: Sequence[str], said: Mapping[str, Any]
    ) -> None:
        from opentelemetry.trace import SpanKind, use_span

        self._span: Span = tracer.start_span(
            name,
            context=_context_of(parent) if parent else None,
            kind=SpanKind[kind.upper()],
            attributes=said,
            links=[link for each in links if (link := _link_to(each))],
            record_exception=False,
            set_status_on_exception=False,
        )
        self._use = use_span(self._span, end_on_exit=True, record_exception=False, set_status_on_exception=False)

    def say(self, name: str, value: str | int | float | bool) -> None:
        """Add an attribute."""
        self._span.set_attribute(name, value)

    def fail(self, code: str) -> None:
        """Say that it failed, and what that is called."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", code)
        self._span.set_status(StatusCode.ERROR, code)

    def __enter__(self) -> "_Spanned":
        self._use.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Rejected):  # the domain says no: nothing is wrong
            self.say("error.type", error.code)
        elif isinstance(error, Exception):
            self.fail(code_of(error))
        self._use.__exit__(kind, error, trace)


def _leads_somewhere(provider: object) -> bool:
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _context_of(traceparent: str) -> Any:
    """Return the context in which a span has this parent; one without any if it is no `traceparent`."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    link = _link_to(traceparent)
    return Context() if link is None else set_span_in_context(NonRecordingSpan(link.context), Context())


def _link_to(traceparent: str) -> "Link | None":
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    said = IN_HEADERS.fullmatch(traceparent)
    if said is None:
        return None
    trace, span, flags, _ = said.groups()
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return Link(context) if context.is_valid else None


def _export(telemetry: Telemetry) -> None:
    """Let OpenTelemetry read the figures whenever it collects, and tell it of every duration."""
    from opentelemetry.metrics import Histogram, Observation, get_meter

    meter, figures = get_meter(SCOPE), telemetry.figures
    own = {"refold.app": telemetry.app}
    histograms: dict[Instrument, Histogram] = {}

    def reading(what: Instrument) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        def read(_: "CallbackOptions") -> "Iterable[Observation]":
            for labels, value in figures.values(what):
                yield Observation(value, dict(zip(what.labels, labels, strict=True)) | own)

        return read

    for each in INSTRUMENTS:
        match each.kind:
            case "counter":
                meter.create_observable_counter(each.name, [reading(each)], each.unit, each.about)
            case "gauge":
                meter.create_observable_gauge(each.name, [reading(each)], each.unit, each.about)
            case "histogram":
                histograms[each] = meter.create_histogram(
                    each.name, each.unit, each.about, explicit_bucket_boundaries_advisory=BOUNDS
                )

    def also(what: Instrument, spread: Spread, seconds: float) -> None:
        histograms[what].record(seconds, {**spread.labels, **own})

    figures.also = also
