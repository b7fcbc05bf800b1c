"""States: what events add up to.

A state built from its key alone is at once the initial state and the query for its events. Reading its class gives
everything that the rest of Refold needs: the key from the fields without a default, the events from `evolve`.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import product
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast, dataclass_transform

import msgspec
from msgspec import Struct, field

from refold.errors import InvalidQuery, WiringError
from refold.model.hints import described, hints, members, peeled
from refold.model.message import Event, stored_name
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, Recorded
from refold.model.tag import Tag, TagPath, can_be_tag, tag_paths, tags_of

Identity: TypeAlias = tuple[Any, ...]
"""The class of a state followed by the values of its key."""
Values: TypeAlias = tuple[Any, ...]
"""The values of a key."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class State(Struct, frozen=True, gc=False):
    """What events add up to, under a key.

    Fields without a default are the key, each with a tag; fields with one are the initial value. `evolve` takes an
    event and returns the next state; the annotation of its event is the query. If `evolve` has one more parameter,
    annotated `Metadata`, it is given the event's.
    """

    if TYPE_CHECKING:

        def replace(self, **changes: Any) -> Self:
            """Return a copy with some fields changed."""
            ...
    else:
        replace = Struct.__replace__  # five times as fast as a method around it, and in every `evolve`

    def query(self) -> Query:
        """Return which events this state is made of, by the names of the classes in `evolve`'s annotation."""
        kind = state_kind(type(self))
        return Query((QueryItem(tuple(stored_name(event).name for event in kind.events), kind.tags(self)),))

    def fold(self, events: Iterable[Event | Recorded[Event]]) -> Self:
        """Return the state after those of `events` that it is made of; bare events get empty metadata."""
        kind = state_kind(type(self))
        wanted = set(kind.tags(self))
        state = self
        for each in events:
            event, metadata = (each.event, each.metadata) if isinstance(each, Recorded) else (each, Metadata())
            # A subclass of an event is another event, in the log as here.
            if type(event) in kind.events and wanted.issubset(tags_of(event)):
                state = kind.step(state, event, metadata)
        return state


class Singleton(State):
    """A state without a key, of which a log has one: it folds every event of its types."""


class KeyField(Struct, frozen=True):
    """A field of a state's key, and the tag that it stands for."""

    name: str
    tag: Tag
    type: type


class StateKind(Struct, frozen=True):
    """What a state's class says, read once."""

    cls: type[State]
    keys: tuple[KeyField, ...]
    events: tuple[type[Event], ...]
    wants_metadata: bool

    def tags(self, state: State) -> tuple[str, ...]:
        """Return the tags that all events of this state carry."""
        return tuple(key.tag.text(getattr(state, key.name)) for key in self.keys)

    def identity(self, state: State) -> Identity:
        """Return what tells this state from all others."""
        return (self.cls, *(getattr(state, key.name) for key in self.keys))

    def initial(self, *key: Any) -> State:
        """Return the state before any event."""
        return self.cls(**{field.name: value for field, value in zip(self.keys, key, strict=True)})

    def parsed(self, texts: Sequence[str]) -> State:
        """Return the state before any event whose key is given as texts, or raise `InvalidQuery`."""
        if len(texts) != len(self.keys):
            names = ", ".join(field.name for field in self.keys) or "empty"
            raise InvalidQuery(f"the key of {self.cls.__name__} is {names}; {len(texts)} values were given")
        try:
            return self.initial(
                *(msgspec.convert(text, key.type, strict=False) for text, key in zip(texts, self.keys, strict=True))
            )
        except msgspec.ValidationError as error:
            raise InvalidQuery(f"the key of {self.cls.__name__}: {error}") from None

    def step(self, state: Any, event: Event, metadata: Metadata) -> Any:
        """Return the state after one more event."""
        evolved = state.evolve(event, metadata) if self.wants_metadata else state.evolve(event)
        if not isinstance(evolved, self.cls):
            raise WiringError(
                f"{described(self.cls)}.evolve returned {evolved!r} for {type(event).__name__}: "
                "give each event of its annotation a case that returns a state, or end with `return self`"
            )
        return evolved

    def keys_in(self, event: Event) -> list[tuple[Any, ...]]:
        """Return the keys of all states of this kind that an event belongs to."""
        if not self.keys:
            return [()]
        paths = tag_paths(type(event))
        values = [
            dict.fromkeys(value for path in paths if path.tag == key.tag for value in path.read(event))
            for key in self.keys
        ]
        return list(product(*values))


@cache
def state_kind(cls: type[State]) -> StateKind:
    """Read a state's class, or raise `WiringError` saying what to write."""
    keys = _keys(cls)
    if not keys and not issubclass(cls, Singleton):
        raise WiringError(
            f"{described(cls)} has no key. Give it one or more fields without a default, each with a tag: "
            "`order_id: Annotated[str, Tag('order')]`; or, if the log has only one of it, make it a `Singleton`"
        )
    if keys and issubclass(cls, Singleton):
        raise WiringError(
            f"{described(cls)} is a Singleton, so it has no key: give {keys[0].name!r} a default, or make it a `State`"
        )
    events, wants_metadata = _evolve(cls)
    for event in events:
        paths = tag_paths(event)
        for key in keys:
            _check_tagged(cls, key, event, [path for path in paths if path.tag == key.tag])
    return StateKind(cls, keys, events, wants_metadata)


def _keys(cls: type[State]) -> tuple[KeyField, ...]:
    annotations = hints(cls)
    keys: list[KeyField] = []
    for each in msgspec.structs.fields(cls):
        if not each.required:
            continue
        inner, marks = peeled(annotations[each.name])
        tag = next((mark for mark in marks if isinstance(mark, Tag)), None)
        if tag is None:
            raise WiringError(
                f"{described(cls)}.{each.name} has no default, so it is part of the key, but it has no tag. Write "
                f"`{each.name}: Annotated[str, Tag('{each.name.removesuffix('_id')}')]`, or give it a default"
            )
        if not can_be_tag(inner):
            raise WiringError(
                f"{described(cls)}.{each.name} is part of the key, so it must be a str, int, UUID, date or enum, "
                f"not {getattr(inner, '__name__', inner)}"
            )
        keys.append(KeyField(each.name, tag, inner))
    return tuple(keys)


def _evolve(cls: type[State]) -> tuple[tuple[type[Event], ...], bool]:
    function = getattr(cls, "evolve", None)
    if function is None:
        raise WiringError(f"{described(cls)} has no evolve. Write `def evolve(self, event: SomethingHappened) -> Self`")
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise WiringError(f"{described(cls)}.evolve must be a plain method: `def evolve(self, event: …) -> Self`")
    annotations = hints(function)
    annotations.pop("return", None)
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    if not names or names[0] not in annotations:
        raise WiringError(
            f"{described(function)} must say which events it folds: "
            "`def evolve(self, event: OrderPlaced | OrderShipped) -> Self`"
        )
    events = tuple(dict.fromkeys(members(annotations[names[0]])))
    for event in events:
        if not isinstance(event, type) or not issubclass(event, Event) or event is Event:
            raise WiringError(f"{described(function)} takes {event!r}, which is not a class of events")
    for name in names[1:]:
        if annotations.get(name) is not Metadata:
            raise WiringError(
                f"{described(function)} has a parameter {name!r}; besides the event it may take `Metadata` only"
            )
    if function.__code__.co_kwonlyargcount:
        raise WiringError(f"{described(function)} takes parameters by name; take them by position, without `*`")
    if len(names) > 2:
        raise WiringError(f"{described(function)} takes Metadata twice")
    return cast(tuple[type[Event], ...], events), len(names) == 2


def _check_tagged(cls: type[State], key: KeyField, event: type[Event], paths: list[TagPath]) -> None:
    if not paths:
        raise WiringError(
            f"{described(cls)} is kept by {key.tag.name!r}, but {described(event)} has no field with that tag, so it "
            f"could never reach it. Tag the field: `Annotated[{key.type.__name__}, Tag('{key.tag.name}')]`"
        )
    for path in paths:
        if path.kind is not key.type:
            raise WiringError(
                f"{described(cls)}.{key.name} is of type {key.type.__name__}, but {described(event)}.{path.where}, "
                f"with the same tag, is of type {path.kind.__name__}"
            )


def keys_by_event(kind: StateKind) -> dict[type[Event], Callable[[Event], Sequence[Values]]]:
    """Return for each class of events how to find the keys of the states that it belongs to."""
    return {event: _keys_of(kind, event) for event in kind.events}


def _keys_of(kind: StateKind, event: type[Event]) -> Callable[[Event], Sequence[Values]]:
    """Return how to find the keys in an event of a class; quickly where each is one plain field."""
    paths = [[path for path in tag_paths(event) if path.tag == key.tag] for key in kind.keys]
    if not paths or any(len(places) != 1 or places[0].where != places[0].field for places in paths):
        return kind.keys_in
    fields = [places[0].field for places in paths]
    types = [places[0].kind for places in paths]
    if len(fields) == 1:
        [field], [plain] = fields, types
        get = attrgetter(field)

        def one(event: Event) -> Sequence[Values]:
            value = get(event)
            return ((value,),) if type(value) is plain else kind.keys_in(event)

        return one
    get = attrgetter(*fields)

    def all_of(event: Event) -> Sequence[Values]:
        key: Values = get(event)
        return (key,) if list(map(type, key)) == types else kind.keys_in(event)

    return all_of
