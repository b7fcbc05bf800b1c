"""The schema: which events a program knows, and how each stored type and version becomes one of them.

Events are stored as JSON. What is encoded is decoded again at once and compared, so that nothing enters the log
that could not be read from it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast

import msgspec
from msgspec import Struct

from refold.errors import InvalidEvent, UndecodableEvent, UnknownEvent, WiringError
from refold.model.hints import described, hints, members
from refold.model.message import Event, stored_name
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, NewEvent, Recorded, StoredEvent
from refold.model.state import State, state_kind
from refold.model.tag import tag_paths, tags_of

MAX_DIGITS = 64
"""Of a Decimal, and of its exponent's amount: `int(Decimal("1e999999"))` alone takes half a minute."""

_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(Metadata).decode


class _Form(Struct, frozen=True):
    """One stored type and version: how it is decoded, and the upcasters that lead to what the program knows."""

    kind: type[Event]
    decode: Callable[[bytes], Event]
    upcasters: tuple[Callable[[Any], Event], ...]


class Schema:
    """The events of a program, with the upcasters that lead old ones to them."""

    def __init__(self, events: object, upcasters: Iterable[Callable[[Any], Event]] = ()) -> None:
        self.events = tuple(_event_classes(events))
        steps = dict(_upcaster(function) for function in upcasters)
        for old in steps:
            if old in self.events:
                raise WiringError(
                    f"{described(old)} is upcast, so nothing may record it any more: take it out of `events`"
                )
        self._stored_as = {kind: stored_name(kind) for kind in self.events}
        self._checks = {kind: _needs_checks(kind) for kind in self.events}
        self._forms: dict[tuple[str, int], _Form] = {}
        for kind in (*self.events, *steps):
            self._add(kind, _chain(kind, steps, self.events))
        self._check_versions()
        self._names = self._names_by_class(steps)

    def encode(self, event: Event, metadata: Metadata | None = None) -> NewEvent:
        """Encode an event for the log, or raise `InvalidEvent` if it could not be read from it again."""
        kind = type(event)
        if kind not in self._stored_as:
            raise InvalidEvent(f"{described(kind)} is not among the events of this app: add it to `events`")
        name, version = self._stored_as[kind]
        if self._checks[kind]:
            _check_value(event, kind.__name__)
        try:
            data = _encode(event)
            again = self._forms[name, version].decode(data)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(f"{event!r} cannot be stored: {error}") from error
        if again != event:
            raise InvalidEvent(_difference(event, again))
        return NewEvent(name, data, tags_of(event), version, b"" if metadata is None else encode_metadata(metadata))

    def decode(self, stored: StoredEvent) -> Event:
        """Decode a stored event and bring it up to what the program knows."""
        form = self._forms.get((stored.type, stored.version))
        if form is None:
            raise self._unknown(stored)
        try:
            event = form.decode(stored.data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise UndecodableEvent(
                f"the event at position {stored.position}, {stored.type} version {stored.version}, does not fit "
                f"{described(form.kind)}: {error}. Its data begins {stored.data[:120]!r}. "
                "If the class changed, keep the old one and write an upcaster",
                position=stored.position,
            ) from error
        for upcaster in form.upcasters:
            event = upcaster(event)
        return event

    def recorded(self, stored: StoredEvent) -> Recorded[Event]:
        """Decode a stored event together with its metadata."""
        return Recorded(stored.position, stored.recorded_at, self.decode(stored), decode_metadata(stored), stored.tags)

    def names(self, kinds: Iterable[type[Event]]) -> tuple[str, ...]:
        """Return the type names under which events of these classes are stored, old names included."""
        names: dict[str, None] = {}
        for kind in kinds:
            if kind not in self._names:
                raise WiringError(f"{described(kind)} is not among the events of this app: add it to `events`")
            names.update(dict.fromkeys(self._names[kind]))
        return tuple(names)

    def query(self, state: State) -> Query:
        """Return which stored events a state is made of, those that are upcast included."""
        kind = state_kind(type(state))
        return Query((QueryItem(self.names(kind.events), kind.tags(state)),))

    def _add(self, kind: type[Event], upcasters: tuple[Callable[[Any], Event], ...]) -> None:
        stored = stored_name(kind)
        if stored in self._forms:
            raise WiringError(
                f"{described(kind)} and {described(self._forms[stored].kind)} are both stored as {stored.name!r} "
                f"version {stored.version}: give one another version, `@stored_as({stored.name!r}, version=2)`"
            )
        tag_paths(kind)
        self._forms[stored] = _Form(kind, msgspec.json.Decoder(kind).decode, upcasters)

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

    def _names_by_class(self, steps: Mapping[type[Event], "_Step"]) -> dict[type[Event], tuple[str, ...]]:
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


class _Step(Struct, frozen=True):
    function: Callable[[Any], Event]
    new: type[Event]


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode metadata for the log, or raise `InvalidEvent` for a naive time."""
    if metadata.occurred_at is not None and metadata.occurred_at.tzinfo is None:
        raise InvalidEvent(f"occurred_at={metadata.occurred_at!r} has no time zone: use datetime(…, tzinfo=UTC)")
    try:
        return _encode(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"the metadata cannot be stored: {error}") from error


def decode_metadata(stored: StoredEvent) -> Metadata:
    """Decode a stored event's metadata; `occurred_at` is `recorded_at` where none was given."""
    if not stored.metadata:
        return Metadata(occurred_at=stored.recorded_at)
    try:
        metadata = _decode_metadata(stored.metadata)
    except msgspec.MsgspecError as error:
        raise UndecodableEvent(
            f"the metadata of the event at position {stored.position} cannot be read: {error}",
            position=stored.position,
        ) from error
    if metadata.occurred_at is None:
        return msgspec.structs.replace(metadata, occurred_at=stored.recorded_at)
    return metadata


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
    annotations = hints(function)
    new = annotations.pop("return", None)
    olds = list(annotations.values())
    for kind in (*olds, new):
        if not isinstance(kind, type) or not issubclass(kind, Event) or len(olds) != 1:
            raise WiringError(
                f"{described(function)} is no upcaster. Write `def {function.__name__}(old: OldEvent) -> NewEvent`"
            )
    if olds[0] is new:
        raise WiringError(f"{described(function)} leads from {described(new)} to itself")
    return olds[0], _Step(function, cast(type[Event], new))


def _chain(
    kind: type[Event], steps: Mapping[type[Event], _Step], events: tuple[type[Event], ...]
) -> tuple[Callable[[Any], Event], ...]:
    functions: list[Callable[[Any], Event]] = []
    seen = [kind]
    while kind in steps:
        functions.append(steps[kind].function)
        kind = steps[kind].new
        if kind in seen:
            raise WiringError(f"upcasters go in a circle: {' → '.join(each.__name__ for each in (*seen, kind))}")
        seen.append(kind)
    if kind not in events:
        raise WiringError(
            f"{described(functions[-1])} leads to {described(kind)}, which is not among the events of this app: "
            "add it to `events`, or write an upcaster from it"
        )
    return tuple(functions)


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


def _check_value(value: object, where: str) -> None:
    """Refuse times without a zone, numbers that are none, and Decimals that could stall a reader."""
    match value:
        case datetime() | time() if value.tzinfo is None:
            raise InvalidEvent(f"{where} is {value!r}, which has no time zone: use datetime(…, tzinfo=UTC)")
        case float() if not math.isfinite(value):
            raise InvalidEvent(f"{where} is {value}, which JSON cannot hold")
        case Decimal():
            _, digits, exponent = value.as_tuple()
            if not isinstance(exponent, int) or abs(exponent) > MAX_DIGITS or len(digits) > MAX_DIGITS:
                raise InvalidEvent(f"{where} is {value!r}: at most {MAX_DIGITS} digits, and an exponent as small")
        case Struct():
            for name in value.__struct_fields__:
                _check_value(getattr(value, name), f"{where}.{name}")
        case dict():
            for key, entry in cast(dict[object, object], value).items():
                _check_value(key, f"{where}, a key")
                _check_value(entry, f"{where}[{key!r}]")
        case list() | tuple() | set() | frozenset():
            for entry in cast(Iterable[object], value):
                _check_value(entry, f"{where}[]")
        case _:
            pass


def _difference(event: Event, again: Event) -> str:
    """Say what would come back changed."""
    for name in event.__struct_fields__:
        given, read = getattr(event, name), getattr(again, name)
        if given != read:
            return (
                f"{type(event).__name__}.{name} is {given!r}, but would be read from the log as {read!r}: "
                "give it the type that its annotation names"
            )
    return f"{event!r} would be read from the log as {again!r}"
