"""The schema: which events a program knows, and how each stored type and version becomes one of them.

Events are stored as JSON. What is encoded is decoded again at once and compared, so that nothing enters the log
that could not be read from it.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.errors import InvalidEvent, UndecodableEvent, UnknownEvent, WiringError
from refold.model.hints import described, hints, members
from refold.model.message import Event, stored_name
from refold.model.query import Query, QueryItem
from refold.model.record import UNSAID, Metadata, NewEvent, Recorded, StoredEvent
from refold.model.state import State, state_kind
from refold.model.tag import tag_paths, tags_of

S = TypeVar("S", bound=Struct)

MAX_DIGITS = 64
"""Of a Decimal, and of its exponent's amount: `int(Decimal("1e999999"))` alone takes half a minute."""

_HARMLESS = frozenset({str, int, bool, bytes, type(None), date, UUID})
_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(Metadata).decode


class _Step(Struct, frozen=True):
    """An upcaster, and where it leads."""

    function: Callable[[Any], Event]
    new: type[Event]


class _Form(Struct, frozen=True):
    """One stored type and version: how it is decoded, and the upcasters that lead to what the program knows."""

    kind: type[Event]
    decode: Callable[[bytes], Event]
    steps: tuple[_Step, ...]


class Schema:
    """The events of a program, with the upcasters that lead old ones to them."""

    def __init__(self, events: object, upcasters: Iterable[Callable[[Any], Event]] = (), *, own: bool = True) -> None:
        """Read them; of a program's own events, which may be in its log, every older version has to be readable."""
        self.events = tuple(_event_classes(events))
        steps: dict[type[Event], _Step] = {}
        for old, step in map(_upcaster, upcasters):
            if old in steps:
                raise WiringError(
                    f"{described(step.function)} and {described(steps[old].function)} both upcast {described(old)}: "
                    "leave one of them"
                )
            steps[old] = step
        for old in steps:
            if old in self.events:
                raise WiringError(
                    f"{described(old)} is upcast, so nothing may record it any more: take it out of `events`"
                )
        self._stored_as = {kind: stored_name(kind) for kind in self.events}
        self._checks = {kind: _needs_checks(kind) for kind in (*self.events, *steps)}
        self._forms: dict[tuple[str, int], _Form] = {}
        for kind in (*self.events, *steps):
            self._add(kind, _chain(kind, steps, self.events))
        if own:
            self._check_versions()
        self._names = self._names_by_class(steps)

    def encode(self, event: Event, metadata: Metadata | None = None) -> NewEvent:
        """Encode an event for the log, or raise `InvalidEvent` if it could not be read from it again."""
        kind = type(event)
        if kind not in self._stored_as:
            raise InvalidEvent(f"{described(kind)} is not among the events of this app: add it to `events`")
        name, version = self._stored_as[kind]
        data, again = _encoded(event, self._forms[name, version].decode, kind.__name__, check=self._checks[kind])
        # What was read again has the types of its annotations: "red" and Color.RED are equal, but only one has a tag.
        return NewEvent(name, data, tags_of(again), version, b"" if metadata is None else encode_metadata(metadata))

    def decode(self, stored: StoredEvent) -> Sequence[Event]:
        """Decode a stored event and bring it up to what the program knows: one event, several, or none."""
        form = self._forms.get((stored.type, stored.version))
        if form is None:
            raise self._unknown(stored)
        try:
            event = form.decode(stored.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _undecodable(
                stored,
                f"does not fit {described(form.kind)}: {error}. Its data begins {stored.data[:120]!r}. "
                "If the class changed, keep the old one and write an upcaster",
            ) from error
        for step in form.steps:
            try:
                event = step.function(event)
            except Exception as error:
                raise _undecodable(stored, f"fails {described(step.function)}: {error!r}") from error
            if type(event) is not step.new:
                raise _undecodable(
                    stored, f"is made {event!r} by {described(step.function)}, but should be a {step.new.__name__}"
                )
        return (event,)

    def recorded(self, stored: StoredEvent) -> Sequence[Recorded[Event]]:
        """Decode a stored event together with its metadata; what it has become shares its place in the log."""
        metadata = decode_metadata(stored)
        return [
            Recorded(stored.position, stored.recorded_at, event, metadata, stored.tags) for event in self.decode(stored)
        ]

    def names(self, kinds: Iterable[type[Event]]) -> tuple[str, ...]:
        """Return the type names under which events of these classes are stored, old names included."""
        names: dict[str, None] = {}
        for kind in kinds:
            if kind not in self._names:
                raise WiringError(f"{described(kind)} is not among the events of this app: add it to `events`")
            names.update(dict.fromkeys(self._names[kind]))
        return tuple(names)

    def upcasters(self, kinds: Iterable[type[Event]]) -> list[Callable[[Any], Event]]:
        """Return the functions that lead old events to these classes."""
        wanted = tuple(kinds)
        chains = [form.steps for form in self._forms.values() if form.steps and form.steps[-1].new in wanted]
        return list(dict.fromkeys(step.function for steps in chains for step in steps))

    def decoders(self, kinds: Iterable[type[Event]]) -> Mapping[str, tuple[int, Callable[[bytes], Event]]] | None:
        """Return for each type name its version and what decodes it; None if any of it is upcast, and so takes more."""
        names, found = self.names(kinds), dict[str, tuple[int, Callable[[bytes], Event]]]()
        for (name, version), form in self._forms.items():
            if name in names:
                if form.steps or name in found:
                    return None
                found[name] = (version, form.decode)
        return found

    def query(self, state: State) -> Query:
        """Return which stored events a state is made of, those that are upcast included."""
        kind = state_kind(type(state))
        return Query((QueryItem(self.names(kind.events), kind.tags(state)),))

    def _add(self, kind: type[Event], steps: tuple[_Step, ...]) -> None:
        stored = stored_name(kind)
        if stored in self._forms:
            raise WiringError(
                f"{described(kind)} and {described(self._forms[stored].kind)} are both stored as {stored.name!r} "
                f"version {stored.version}: give one another name or version, as in "
                f"`@stored_as({stored.name!r}, version={stored.version + 1})`"
            )
        tag_paths(kind)
        self._forms[stored] = _Form(kind, msgspec.json.Decoder(kind).decode, steps)

    def _check_versions(self) -> None:
        newest: dict[str, int] = {}
        for name, version in self._forms:
            newest[name] = max(version, newest.get(name, 0))
        for name, last in newest.items():
            for version in range(1, last):
                if (name, version) not in self._forms:
                    raise WiringError(
                        f"{name} is at version {last}, but nothing reads version {version}. Keep its class as "
                        f"`@stored_as({name!r}, version={version})` and add an upcaster from it to `upcasters`"
                    )

    def _names_by_class(self, steps: Mapping[type[Event], _Step]) -> dict[type[Event], tuple[str, ...]]:
        names: dict[type[Event], list[str]] = {kind: [self._stored_as[kind].name] for kind in self.events}
        for old in steps:
            names[_end(old, steps)].append(stored_name(old).name)
        return {kind: tuple(dict.fromkeys(found)) for kind, found in names.items()}

    def _unknown(self, stored: StoredEvent) -> UnknownEvent:
        versions = [str(version) for name, version in self._forms if name == stored.type]
        known = f"this program knows version {', '.join(versions)}" if versions else "this program has no such event"
        return UnknownEvent(
            f"the event at position {stored.position} is a {stored.type} version {stored.version}, but {known}. "
            "Add its class to `events`, or an upcaster from it to `upcasters`",
            position=stored.position,
            type=stored.type,
            version=stored.version,
        )


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode metadata for the log, or raise `InvalidEvent` if it could not be read from it again."""
    check = metadata.occurred_at is not UNSAID or bool(metadata.extra)
    data, _ = _encoded(metadata, _decode_metadata, "metadata", check=check)
    return data


def decode_metadata(stored: StoredEvent) -> Metadata:
    """Decode a stored event's metadata; `occurred_at` is `recorded_at` where none was given."""
    if not stored.metadata:
        return Metadata(occurred_at=stored.recorded_at)
    try:
        metadata = _decode_metadata(stored.metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _undecodable(stored, f"has metadata that cannot be read: {error}") from error
    if metadata.occurred_at is UNSAID:
        return msgspec.structs.replace(metadata, occurred_at=stored.recorded_at)
    return metadata


def _undecodable(stored: StoredEvent, why: str) -> UndecodableEvent:
    return UndecodableEvent(
        f"the event at position {stored.position}, {stored.type} version {stored.version}, {why}",
        position=stored.position,
        type=stored.type,
        version=stored.version,
    )


def _event_classes(events: object) -> Iterable[type[Event]]:
    """Read `events=`: a union, or an iterable of classes and unions."""
    parts = cast(Iterable[object], events) if isinstance(events, Iterable) else (events,)
    classes = tuple(dict.fromkeys(member for part in parts for member in members(part)))
    if not classes:
        raise WiringError("an app needs events: events=OrderPlaced | OrderShipped, or a list of their classes")
    for kind in classes:
        if not isinstance(kind, type) or not issubclass(kind, Event) or kind is Event:
            raise WiringError(f"events= holds {kind!r}, which is not a class of events")
    return cast(tuple[type[Event], ...], classes)


def _upcaster(function: Callable[[Any], Event]) -> tuple[type[Event], _Step]:
    plain = inspect.isfunction(function) and not inspect.iscoroutinefunction(function)
    annotations = hints(function) if plain else {}
    kinds = [annotations.get(name) for name in (*inspect.signature(function).parameters, "return")] if plain else []
    if len(kinds) != 2 or not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
        raise WiringError(
            f"{described(function)} is no upcaster. Write `def add_currency(old: OrderPlacedV1) -> OrderPlaced`"
        )
    old, new = cast(list[type[Event]], kinds)
    if old is new:
        raise WiringError(f"{described(function)} leads from {described(new)} to itself")
    return old, _Step(function, new)


def _chain(kind: type[Event], steps: Mapping[type[Event], _Step], events: tuple[type[Event], ...]) -> tuple[_Step, ...]:
    found: list[_Step] = []
    seen = [kind]
    while kind in steps:
        found.append(steps[kind])
        kind = steps[kind].new
        if kind in seen:
            raise WiringError(f"upcasters go in a circle: {' → '.join(each.__name__ for each in (*seen, kind))}")
        seen.append(kind)
    if kind not in events:
        raise WiringError(
            f"{described(found[-1].function)} leads to {described(kind)}, which is not among the events of this app: "
            "add it to `events`, or write an upcaster from it"
        )
    return tuple(found)


def _end(kind: type[Event], steps: Mapping[type[Event], _Step]) -> type[Event]:
    while kind in steps:
        kind = steps[kind].new
    return kind


def _needs_checks(kind: type[Event]) -> bool:
    """Tell whether values of a class can hold what JSON cannot keep; raise `WiringError` if none can be stored."""
    doubtful = (
        msgspec.inspect.DateTimeType,
        msgspec.inspect.TimeType,
        msgspec.inspect.DecimalType,
        msgspec.inspect.FloatType,
        msgspec.inspect.AnyType,
        msgspec.inspect.CustomType,
    )
    try:
        waiting: list[object] = [msgspec.inspect.type_info(kind)]
        msgspec.json.Decoder(kind)
    except TypeError as error:
        raise WiringError(f"{described(kind)} cannot be stored as JSON: {error}") from None
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, doubtful):
            return True
        if isinstance(each, Struct) and id(each) not in seen:
            seen.add(id(each))
            waiting += [getattr(each, name) for name in each.__struct_fields__]
        elif isinstance(each, tuple):
            waiting += cast(tuple[object, ...], each)
    return False


def _encoded(value: S, decode: Callable[[bytes], S], name: str, *, check: bool) -> tuple[bytes, S]:
    """Encode a value, and return also what will be read; raise `InvalidEvent` if that is not the same."""
    try:
        data = _encode(value)
        again = decode(data)
        wrong = (_doubt(again) if check else None) or _difference(value, again)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"{name}{_reason(value) or f' cannot be stored: {error}'}") from error
    if wrong:
        raise InvalidEvent(f"{name}{_reason(value) or wrong}")
    return data, again


def _reason(value: object) -> str | None:
    """Return the doubt that explains best why a value did not come back."""
    try:
        return _doubt(value)
    except RecursionError:
        return None


def _doubt(value: object) -> str | None:
    """Return where in a value is a time without a zone, a number that is none, or a Decimal that could stall."""
    match value:
        case Struct():
            for name in value.__struct_fields__:
                part = getattr(value, name)
                if type(part) not in _HARMLESS and (found := _doubt(part)):
                    return f".{name}{found}"
        case datetime() | time():
            if value.utcoffset() is None:
                return f" is {value!r}, which has no time zone: use datetime(…, tzinfo=UTC)"
        case float():
            if not math.isfinite(value):
                return f" is {value}, which JSON cannot hold"
        case Decimal():
            _, digits, exponent = value.as_tuple()
            if not isinstance(exponent, int) or abs(exponent) > MAX_DIGITS or len(digits) > MAX_DIGITS:
                return f" is {value!r}: at most {MAX_DIGITS} digits, and an exponent as small"
        case _:
            for part, where in _parts(value):
                if type(part) not in _HARMLESS and (found := _doubt(part)):
                    return where + found
    return None


def _difference(given: object, read: object) -> str | None:
    """Return where and how a value would come back changed, if it would."""
    if given == read:
        return None
    if isinstance(given, datetime) and isinstance(read, datetime) and given.astimezone(UTC) == read.astimezone(UTC):
        # Where clocks are turned, Python takes one moment in two zones for two (PEP 495).
        return None
    parts, others = _parts(given), _parts(read)
    if not parts or type(given) is not type(read) or [where for _, where in parts] != [where for _, where in others]:
        return f" is {given!r}, but would be read from the log as {read!r}: give it the type that its annotation names"
    for (part, where), (other, _) in zip(parts, others, strict=True):
        if found := _difference(part, other):
            return where + found
    return None


def _parts(value: object) -> list[tuple[object, str]]:
    """Return what a value is made of, and where each part is, for people."""
    match value:
        case Struct():
            return [(getattr(value, name), f".{name}") for name in value.__struct_fields__]
        case dict():
            entries = cast(dict[object, object], value).items()
            return [pair for key, entry in entries for pair in ((key, ", a key,"), (entry, f"[{key!r}]"))]
        case list() | tuple() | set() | frozenset():
            return [(part, "[]") for part in cast(Iterable[object], value)]
        case _ if dataclasses.is_dataclass(value):
            return [(getattr(value, each.name), f".{each.name}") for each in dataclasses.fields(value)]
        case _:
            return []
