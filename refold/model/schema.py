"""The schema: which events a program knows, and how each stored type and version becomes one of them.

Events are stored as JSON. What is encoded is decoded again at once and compared, so that nothing enters the log
that could not be read from it.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.errors import InvalidEvent, UnknownEvent, WiringError
from refold.model.hints import described, members
from refold.model.message import Event, stored_name
from refold.model.operated import BUILT_IN
from refold.model.query import Query, QueryItem
from refold.model.record import UNSAID, Metadata, NewEvent, Recorded, StoredEvent
from refold.model.state import State, StateKind, state_kind
from refold.model.tag import tag_paths, tags_of
from refold.model.upcast import Chains, Upcasting, tag_names, undecodable

S = TypeVar("S", bound=Struct)

MAX_DIGITS = 64
"""Of a Decimal, and of its exponent's amount: `int(Decimal("1e999999"))` alone takes half a minute."""

_HARMLESS = frozenset({str, int, bool, bytes, type(None), date, UUID})
_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(Metadata).decode


class _Form(Struct, frozen=True):
    """One stored type and version: how it is decoded, and whether it is upcast then."""

    kind: type[Event]
    decode: Callable[[bytes], Event]
    old: bool


class Schema:
    """The events of a program, with the upcasters that lead old ones to them."""

    def __init__(self, events: object, upcasters: Iterable[Upcasting] = (), *, own: bool = True) -> None:
        """Read them; of a program's own events, which may be in its log, every older version has to be readable."""
        self.built_in = BUILT_IN if own else ()
        """Events that every log may hold, and that are none of the program's own."""
        self.events = tuple(kind for kind in _event_classes(events) if kind not in self.built_in)
        self._chains = Chains(upcasters, self.events, tagged=own)
        current = (*self.events, *self.built_in)
        self._stored_as = {kind: stored_name(kind) for kind in current}
        self._checks = {kind: _needs_checks(kind) for kind in (*current, *self.old_events)}
        self._forms: dict[tuple[str, int], _Form] = {}
        for kind in (*current, *self.old_events):
            self._add(kind)
        if own:
            self._check_versions()
        self._olds: dict[type[Event], list[type[Event]]] = {kind: [] for kind in current}
        for old in self.old_events:
            for kind in self._chains.ends(old):
                self._olds[kind].append(old)
        self._checked: set[type[State]] = set()

    @property
    def old_events(self) -> tuple[type[Event], ...]:
        """The classes of events that are only read, and upcast."""
        return self._chains.olds

    def becomes(self, old: type[Event]) -> tuple[type[Event], ...]:
        """Return the classes of what an old event may become; none if it is dropped."""
        return self._chains.ends(old)

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
        event = _read(form, stored)
        return self._chains.lead(event, stored, decode_metadata) if form.old else (event,)

    def recorded(self, stored: StoredEvent) -> Sequence[Recorded[Event]]:
        """Decode a stored event together with its metadata; what it has become shares its place in the log."""
        metadata = decode_metadata(stored)
        return [
            Recorded(stored.position, stored.recorded_at, event, metadata, stored.tags) for event in self.decode(stored)
        ]

    def decode_for(self, kind: StateKind, tags: Collection[str], stored: StoredEvent) -> Sequence[Event]:
        """Decode a stored event that was found for a state with these tags, and return what the state is made of.

        Of several that stand in the place of an old one, each may be about something else.
        """
        form = self._forms.get((stored.type, stored.version))
        if form is None or form.old:
            events = self.decode(stored)
            return tuple(each for each in events if type(each) in kind.events and set(tags_of(each)).issuperset(tags))
        event = _read(form, stored)
        # Another class may be stored under the name of one that is folded.
        return (event,) if type(event) in kind.events else ()

    def names(self, kinds: Iterable[type[Event]]) -> tuple[str, ...]:
        """Return the type names under which events of these classes are stored, old names included."""
        names: dict[str, None] = {}
        for kind in kinds:
            if kind not in self._olds:
                raise WiringError(self._not_recorded(kind))
            names.update((stored_name(each).name, None) for each in (kind, *self._olds[kind]))
        return tuple(names)

    def upcasters(self, kinds: Iterable[type[Event]]) -> list[Upcasting]:
        """Return the functions that old events pass on their way to these classes."""
        return self._chains.functions(kinds)

    def decoders(self, kinds: Iterable[type[Event]]) -> Mapping[str, tuple[int, Callable[[bytes], Event]]] | None:
        """Return for each type name the version that needs no upcaster, and what decodes it.

        None if some of what is stored under these names becomes several events or none, or one of another class.
        """
        wanted = tuple(kinds)
        names, found = self.names(wanted), dict[str, tuple[int, Callable[[bytes], Event]]]()
        for (name, version), form in self._forms.items():
            if name not in names:
                continue
            if self._chains.straight(form.kind) not in wanted or (not form.old and name in found):
                return None
            if not form.old:
                found[name] = (version, form.decode)
        return found

    def query(self, state: State) -> Query:
        """Return which stored events a state is made of, those that are upcast included."""
        kind = state_kind(type(state))
        self.check_found(kind)
        return Query((QueryItem(self.names(kind.events), kind.tags(state)),))

    def missed(self, kind: StateKind) -> tuple[str, type[Event], type[Event]] | None:
        """Return a tag by which states of a kind would not find an old event, which one, and what it becomes."""
        for event in kind.events:
            for old in self._olds.get(event, ()):
                for key in kind.keys:
                    if key.tag.name not in tag_names(old):
                        return key.tag.name, old, event
        return None

    def check_found(self, kind: StateKind) -> None:
        """Refuse to look for a state by a tag that old events were stored without, so that it would miss them."""
        if kind.cls in self._checked:
            return
        self.names(kind.events)
        if missed := self.missed(kind):
            tag, old, event = missed
            name, version = stored_name(old)
            raise WiringError(
                f"{described(kind.cls)} is found by the tag {tag!r}, but {name} version {version} ({described(old)}), "
                f"which becomes a {event.__name__}, is stored without it, so that it would be missed without a word. "
                "Keep the state as a projection, which reads every event of its types; or write the tag into the log"
            )
        self._checked.add(kind.cls)

    def _add(self, kind: type[Event]) -> None:
        stored = stored_name(kind)
        if stored in self._forms:
            raise WiringError(
                f"{described(kind)} and {described(self._forms[stored].kind)} are both stored as {stored.name!r} "
                f"version {stored.version}: give one another name or version, as in "
                f"`@stored_as({stored.name!r}, version={stored.version + 1})`"
            )
        tag_paths(kind)
        self._forms[stored] = _Form(kind, msgspec.json.Decoder(kind).decode, kind in self.old_events)

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

    def _not_recorded(self, kind: type[Event]) -> str:
        """Say why a class is not among the events, and what to write."""
        if (function := self._chains.function(kind)) is None:
            return f"{described(kind)} is not among the events of this app: add it to `events`"
        now = " or ".join(each.__name__ for each in self.becomes(kind))
        return (
            f"{described(kind)} is old: {described(function)} "
            f"{f'makes it a {now}: write that in its place' if now else 'drops it: leave it out'}"
        )

    def _unknown(self, stored: StoredEvent) -> UnknownEvent:
        versions = [str(version) for name, version in sorted(self._forms) if name == stored.type]
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
        raise undecodable(stored, f"has metadata that cannot be read: {error}") from error
    if metadata.occurred_at is UNSAID:
        return msgspec.structs.replace(metadata, occurred_at=stored.recorded_at)
    return metadata


def _read(form: _Form, stored: StoredEvent) -> Event:
    try:
        return form.decode(stored.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(
            stored,
            f"does not fit {described(form.kind)}: {error}. Its data begins {stored.data[:120]!r}. "
            "If the class changed, keep the old one and write an upcaster",
        ) from error


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
