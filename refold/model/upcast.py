"""Upcasters: plain functions from an old event to what stands in its place now, read off their signatures.

`-> OrderPlaced` gives one event, `-> OrderPlaced | OrderImported` one of two, `-> Iterable[OrderPlaced | GiftAdded]` or
`-> tuple[OrderPlaced, GiftAdded]` several, and `-> None` says that the fact does not count any more. They are chained:
what one gives may be old itself. What they return is checked against the annotation, so that this can be relied on.

Old events are found in the log by the tags that they were stored with, whatever they have become. So an upcaster may
leave tags out, but not make them up: see `Chains.check_tags` and `Schema.check_found`.
"""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias, cast, get_args, get_origin

from msgspec import Struct

from refold.errors import InvalidEvent, UndecodableEvent, WiringError
from refold.model.hints import described, hints, members
from refold.model.message import Event
from refold.model.record import Metadata, StoredEvent
from refold.model.tag import has_tags, tag_paths, tags_of

Upcasting: TypeAlias = Callable[..., Event | Iterable[Event] | None]

_Path: TypeAlias = "tuple[tuple[tuple[Upcasting, type[Event]], ...], Upcaster | None]"
_SEVERAL = (Iterable, Iterator, Generator, Sequence, list, tuple)


class Upcaster(Struct, frozen=True):
    """An upcaster, and where it leads."""

    function: Upcasting
    olds: tuple[type[Event], ...]
    news: frozenset[type[Event]]
    """The classes of what it gives; none if it drops what it takes."""
    one: type[Event] | None
    """The class of what it gives, if that is always one event of one class, and the old event is all it looks at."""
    several: bool
    shape: tuple[frozenset[type[Event]], ...] | None
    """What is at each place, if it gives a tuple that says so."""
    optional: bool
    wants_metadata: bool

    def give(self, old: Event, stored: StoredEvent, read: Callable[[StoredEvent], Metadata]) -> list[Event]:
        """Call it, and return what it gives in a list, unchecked."""
        given = self.function(old, read(stored)) if self.wants_metadata else self.function(old)
        if given is None and self.optional:
            return []
        return list(cast(Iterable[Event], given)) if self.several else [cast(Event, given)]

    def fits(self, given: Sequence[Event]) -> bool:
        """Tell whether that is what the annotation says."""
        if self.shape is not None:
            if not given and self.optional:
                return True
            return len(given) == len(self.shape) and all(
                type(each) in kinds for each, kinds in zip(given, self.shape, strict=True)
            )
        return all(type(each) in self.news for each in given)

    @property
    def said(self) -> str:
        """What it should give, for people."""
        names = " or ".join(sorted(f"a {kind.__name__}" for kind in self.news))
        if self.shape is not None:
            names = ", ".join(" or ".join(sorted(kind.__name__ for kind in kinds)) for kinds in self.shape)
        return f"{'several, each ' if self.several and self.shape is None else ''}{names}" or "nothing"


class Chains:
    """The upcasters of a program, and how they lead from each old event to those that it knows."""

    def __init__(self, upcasters: Iterable[Upcasting], events: Sequence[type[Event]], *, tagged: bool) -> None:
        """Read them, or raise `WiringError` saying what to write; see `check_tags` for what `tagged` asks."""
        self._steps: dict[type[Event], Upcaster] = {}
        self._tagged = tagged
        for upcaster in map(read_upcaster, upcasters):
            for old in upcaster.olds:
                self._add(old, upcaster, events)
        self._ends = {old: self._walk(old, events, (old,)) for old in self._steps}  # refuses circles
        self._paths = {old: self._path(old) for old in self._steps}

    @property
    def olds(self) -> tuple[type[Event], ...]:
        """The classes of events that are upcast."""
        return tuple(self._steps)

    def ends(self, old: type[Event]) -> tuple[type[Event], ...]:
        """Return the classes of what an old event may become, none if it is dropped."""
        return self._ends[old]

    def straight(self, old: type[Event]) -> type[Event] | None:
        """Return the class of what an old event becomes, if that is always one event, and of that class."""
        kind = old
        while kind in self._steps:
            one = self._steps[kind].one
            if one is None:
                return None
            kind = one
        return kind

    def lead(self, old: Event, stored: StoredEvent, read: Callable[[StoredEvent], Metadata]) -> tuple[Event, ...]:
        """Bring an old event up to what the program knows, or raise `UndecodableEvent`."""
        event: Any = old
        plain, step = self._paths[type(old)]
        for function, kind in plain:
            try:
                event = function(event)
            except Exception as error:
                raise _failed(stored, function, error) from error
            if type(event) is not kind:
                raise _not_as_said(stored, function, event, f"a {kind.__name__}")
        found = (event,) if step is None else tuple(self._spread(event, step, stored, read))
        if self._tagged:
            for each in found:
                if not has_tags(each, stored.tags):
                    self.check_tags(type(old), each, stored)
        return found

    def check_tags(self, old: type[Event], event: Event, stored: StoredEvent) -> None:
        """Refuse tags that an upcaster has made up: by those the stored event is not found, and so would be missed.

        Tags of a name that the old class has not are left out; who asks for those is told by `Schema.check_found`.
        """
        try:
            tags = tags_of(event)
        except InvalidEvent as error:
            raise undecodable(stored, f"is upcast to a {type(event).__name__}, of which {error}") from error
        for tag in tags:
            if tag not in stored.tags and not tag.startswith(_new_tags(old, type(event))):
                raise undecodable(
                    stored,
                    f"is upcast to a {type(event).__name__} about {tag}, but was stored about "
                    f"{', '.join(stored.tags) or 'nothing'}, by which it is found: keep the value as it is "
                    "stored, or take the tag off its field",
                )

    def functions(self, kinds: Iterable[type[Event]]) -> list[Upcasting]:
        """Return the upcasters that old events pass on their way to these classes."""
        wanted = set(kinds)
        found = [self._steps[old].function for old, ends in self._ends.items() if not wanted.isdisjoint(ends)]
        return list(dict.fromkeys(found))

    def function(self, old: type[Event]) -> Upcasting | None:
        """Return the upcaster of a class, if it has one."""
        return self._steps[old].function if old in self._steps else None

    def _spread(
        self, event: Event, step: Upcaster, stored: StoredEvent, read: Callable[[StoredEvent], Metadata]
    ) -> list[Event]:
        try:
            given = step.give(event, stored, read)
        except Exception as error:
            raise _failed(stored, step.function, error) from error
        if not step.fits(given):
            raise _not_as_said(stored, step.function, given if step.several else given[0], step.said)
        found: list[Event] = []
        for each in given:
            following = self._steps.get(type(each))
            found += [each] if following is None else self._spread(each, following, stored, read)
        return found

    def _path(self, old: type[Event]) -> _Path:
        """Return the plain steps that an old event passes first, so that most need no list around each."""
        plain: list[tuple[Upcasting, type[Event]]] = []
        kind = old
        while (step := self._steps.get(kind)) is not None and step.one is not None:
            plain.append((step.function, step.one))
            kind = step.one
        return tuple(plain), step

    def _add(self, old: type[Event], upcaster: Upcaster, events: Sequence[type[Event]]) -> None:
        if old in self._steps:
            raise WiringError(
                f"{described(upcaster.function)} and {described(self._steps[old].function)} both upcast "
                f"{described(old)}: leave one of them"
            )
        if old in events:
            raise WiringError(f"{described(old)} is upcast, so nothing may record it any more: take it out of `events`")
        if old in upcaster.news:
            raise WiringError(f"{described(upcaster.function)} leads from {described(old)} to itself")
        self._steps[old] = upcaster

    def _walk(
        self, old: type[Event], events: Sequence[type[Event]], seen: tuple[type[Event], ...]
    ) -> tuple[type[Event], ...]:
        """Return where an old class leads in the end."""
        step = self._steps[old]
        found: dict[type[Event], None] = {}
        for new in sorted(step.news, key=lambda kind: kind.__qualname__):
            if new in seen:
                circle = (*seen[seen.index(new) :], new)
                raise WiringError(f"upcasters go in a circle: {' → '.join(each.__name__ for each in circle)}")
            if new in self._steps:
                found.update(dict.fromkeys(self._walk(new, events, (*seen, new))))
            elif new in events:
                found[new] = None
            else:
                raise WiringError(
                    f"{described(step.function)} leads to {described(new)}, which is not among the events of this "
                    "app: add it to `events`, or write an upcaster from it"
                )
        return tuple(found)


def read_upcaster(function: Upcasting) -> Upcaster:
    """Read an upcaster off its signature, or raise `WiringError` saying what to write."""
    plain = inspect.isfunction(function) and not (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    )
    annotations = hints(function) if plain else {}
    parameters = list(inspect.signature(function).parameters.values()) if plain else []
    by_position = all(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)
    kinds = [annotations.get(each.name) for each in parameters]
    olds = tuple(dict.fromkeys(members(kinds[0]))) if kinds else ()
    if not (plain and by_position and kinds[1:] in ([], [Metadata]) and _are_events(olds) and "return" in annotations):
        raise _no_upcaster(function)
    one, several, optional, shape = _gives(function, annotations["return"])
    news = frozenset(one) | frozenset(several) | frozenset[type[Event]]().union(*(shape or ()))
    is_one = len(one) == 1 and not optional and len(kinds) == 1
    return Upcaster(
        function,
        cast(tuple[type[Event], ...], olds),
        news,
        one[0] if is_one else None,
        bool(several or shape),
        shape,
        optional,
        wants_metadata=len(kinds) == 2,
    )


def undecodable(stored: StoredEvent, why: str) -> UndecodableEvent:
    """Return the error of a stored event that cannot be read; it says which, and why."""
    return UndecodableEvent(
        f"the event at position {stored.position}, {stored.type} version {stored.version}, {why}",
        position=stored.position,
        type=stored.type,
        version=stored.version,
    )


def tag_names(kind: type[Event]) -> frozenset[str]:
    """Return the names of the tags that events of a class carry."""
    return frozenset(path.tag.name for path in tag_paths(kind))


def _gives(
    function: Upcasting, annotation: Any
) -> tuple[list[type[Event]], list[type[Event]], bool, tuple[frozenset[type[Event]], ...] | None]:
    """Read a return annotation: classes of one event, of several, whether there may be none, and a tuple's places."""
    one: list[Any] = []
    several: list[Any] = []
    shape: tuple[frozenset[type[Event]], ...] | None = None
    optional = False
    for member in members(annotation):
        arguments = get_args(member)
        if member is None or member is type(None):
            optional = True
        elif get_origin(member) is tuple and arguments and Ellipsis not in arguments:
            shape = tuple(frozenset(members(argument)) for argument in arguments)
        elif get_origin(member) in _SEVERAL and arguments:
            several += members(arguments[0])
        else:
            one.append(member)
    if sum(map(bool, (one, several, shape))) > 1:
        raise WiringError(
            f"{described(function)} gives either one event or several: write `-> Iterable[OrderPlaced | GiftAdded]`, "
            "and yield one where it is one"
        )
    if not _are_events([*one, *several, *(kind for kinds in shape or () for kind in kinds)], least=not optional):
        raise _no_upcaster(function)
    return one, several, optional, shape


def _are_events(kinds: Sequence[Any], *, least: bool = True) -> bool:
    found = all(isinstance(kind, type) and issubclass(kind, Event) and kind is not Event for kind in kinds)
    return found and bool(len(kinds) >= least)


def _no_upcaster(function: object) -> WiringError:
    return WiringError(
        f"{described(function)} is no upcaster. Write `def add_currency(old: OrderPlacedV1) -> OrderPlaced`; "
        "`-> Iterable[OrderPlaced | GiftAdded]` if several stand in its place, `-> None` if the fact does not count "
        "any more. Besides the old event it may take its `Metadata`"
    )


@cache
def _new_tags(old: type[Event], end: type[Event]) -> tuple[str, ...]:
    """Return how tags begin that an event may have, but an old one that becomes it never has."""
    return tuple(f"{name}:" for name in tag_names(end) - tag_names(old))


def _failed(stored: StoredEvent, function: Upcasting, error: Exception) -> UndecodableEvent:
    return undecodable(stored, f"fails {described(function)}: {error!r}")


def _not_as_said(stored: StoredEvent, function: Upcasting, given: object, said: str) -> UndecodableEvent:
    return undecodable(stored, f"is made {given!r} by {described(function)}, but should be {said}")
