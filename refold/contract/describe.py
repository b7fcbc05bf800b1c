"""What an app is made of, as one plain value: the contract that locks, comparisons and documents are made from.

Everything in it is sorted and says the same in every process, so that two contracts are equal if the apps are.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from refold.contract.shape import JsonSchema, json_schema
from refold.model.handler import Handler, StateParameter
from refold.model.message import Command, Event, stored_name
from refold.model.operated import BUILT_IN
from refold.model.schema import Schema
from refold.model.state import State, state_kind
from refold.model.tag import tag_paths
from refold.model.timer import Cancel, Later


class TagRule(Struct, frozen=True, order=True):
    """One place in an event from which a tag is derived."""

    tag: str
    path: str
    """`lines[].sku`."""
    type: str


class EventForm(Struct, frozen=True):
    """One name and version under which events are stored or published."""

    name: str
    version: int
    source: str
    """The class, as `module:name`."""
    doc: str
    schema: JsonSchema
    """JSON Schema 2020-12, with what it refers to in `$defs`."""
    tags: tuple[TagRule, ...]
    becomes: tuple[str, ...] | None = None
    """Of an old one: the names and versions that upcasters make of it, none if it is dropped; None if it is current."""

    @property
    def id(self) -> str:
        """Its name and version: `OrderPlaced.v2`."""
        return form_id(self.name, self.version)


class CommandForm(Struct, frozen=True):
    """A command, and the decision that takes it."""

    name: str
    source: str
    doc: str
    schema: JsonSchema
    decided_by: str
    guards: tuple[str, ...]
    """The states that must not have changed meanwhile."""
    reads: tuple[str, ...]
    """The states that it only looks at."""
    emits: tuple[str, ...]
    """The ids of the events that it may give; empty if its annotation does not say."""


class StateForm(Struct, frozen=True):
    """A state: its key, and what it folds."""

    name: str
    source: str
    doc: str
    key: tuple[TagRule, ...]
    schema: JsonSchema
    events: tuple[str, ...]


class FollowerForm(Struct, frozen=True):
    """What follows events: a projection, a process or an effect."""

    name: str
    kind: Literal["projection", "process", "effect"]
    source: str
    doc: str
    follows: tuple[str, ...]
    emits: tuple[str, ...]
    """The names of the commands that it may give."""


class Translation(Struct, frozen=True):
    """What is published of which stored events."""

    name: str
    """The function; empty if they are published as they are."""
    follows: tuple[str, ...]
    emits: tuple[str, ...]


class Published(Struct, frozen=True):
    """What leaves for other contexts."""

    topic: str
    events: tuple[EventForm, ...]
    translations: tuple[Translation, ...] = ()


class Taken(Struct, frozen=True):
    """What is taken in from another context."""

    context: str
    events: tuple[EventForm, ...]
    gives: tuple[str, ...]
    """The commands and events that come of it."""


class Contract(Struct, frozen=True):
    """Everything that others rely on: the past, other programs, and other contexts."""

    app: str
    events: tuple[EventForm, ...]
    commands: tuple[CommandForm, ...] = ()
    states: tuple[StateForm, ...] = ()
    followers: tuple[FollowerForm, ...] = ()
    published: Published | None = None
    taken: tuple[Taken, ...] = ()

    def event(self, id: str) -> EventForm | None:
        """Return an event by its id."""
        return next((each for each in self.events if each.id == id), None)


def form_id(name: str, version: int) -> str:
    """Return what names a version of an event, in contracts as between contexts."""
    return f"{name}.v{version}"


def id_of(kind: type[Event]) -> str:
    """Return the id of a class of events."""
    return form_id(*stored_name(kind))


def event_forms(schema: Schema) -> tuple[EventForm, ...]:
    """Describe the events of a schema, and the old ones that it can read."""
    current = [_event(kind) for kind in schema.events]
    old = [_event(kind, tuple(sorted(map(id_of, schema.becomes(kind))))) for kind in schema.old_events]
    return tuple(sorted([*current, *old], key=lambda form: (form.name, form.version)))


def command_forms(decisions: Mapping[type, Handler]) -> tuple[CommandForm, ...]:
    """Describe commands, and how they are decided."""
    return tuple(
        CommandForm(
            name=command.__name__,
            source=source_of(command),
            doc=doc_of(command),
            schema=json_schema(command),
            decided_by=decision.name,
            guards=_states(decision, guarded=True),
            reads=_states(decision, guarded=False),
            emits=_event_ids(decision.emits or ()),
        )
        for command, decision in sorted(decisions.items(), key=lambda each: each[0].__name__)
    )


def state_forms(states: Iterable[type[State]]) -> tuple[StateForm, ...]:
    """Describe states."""
    return tuple(
        StateForm(
            name=cls.__name__,
            source=source_of(cls),
            doc=doc_of(cls),
            key=tuple(TagRule(key.tag.name, key.name, key.type.__name__) for key in state_kind(cls).keys),
            schema=json_schema(cls),
            events=_event_ids(state_kind(cls).events),
        )
        for cls in sorted(states, key=lambda cls: cls.__name__)
    )


def follower(
    kind: Literal["projection", "process", "effect"], handler: Handler | type, follows: Iterable[type[Event]]
) -> FollowerForm:
    """Describe what follows events."""
    of = handler.function if isinstance(handler, Handler) else handler
    emits = handler.emits or () if isinstance(handler, Handler) else ()
    names = sorted(each.__name__ for each in emits if issubclass(each, Command) and each not in (Later, Cancel))
    return FollowerForm(of.__name__, kind, source_of(of), doc_of(of), _event_ids(follows), tuple(names))


def published(topic: str, public: Schema, as_they_are: Iterable[type[Event]], handlers: Iterable[Handler]) -> Published:
    """Describe what is published, and of what."""
    same = (Translation("", (id_of(kind),), (id_of(kind),)) for kind in as_they_are)
    made = (Translation(each.name, _event_ids(each.messages), _event_ids(each.emits or ())) for each in handlers)
    found = sorted([*same, *made], key=lambda each: (each.name, each.follows))
    return Published(topic, event_forms(public), tuple(found))


def taken(context: str, schema: Schema, handlers: Iterable[Handler]) -> Taken:
    """Describe what is taken in from another context."""
    gives = {
        id_of(kind) if issubclass(kind, Event) else kind.__name__ for each in handlers for kind in each.emits or ()
    }
    return Taken(context, event_forms(schema), tuple(sorted(gives)))


def source_of(kind: Any) -> str:
    """Return where a class or function is defined, as `module:name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def doc_of(kind: Any) -> str:
    """Return the docstring of a class or function itself, without what it has from its base."""
    doc = kind.__dict__.get("__doc__") if isinstance(kind, type) else kind.__doc__
    text = inspect.cleandoc(doc) if isinstance(doc, str) else ""
    return "" if text.startswith(f"{kind.__name__}(") else text  # a signature that was made up


def _event(kind: type[Event], becomes: tuple[str, ...] | None = None) -> EventForm:
    name, version = stored_name(kind)
    rules = {TagRule(path.tag.name, path.where, path.kind.__name__) for path in tag_paths(kind)}
    return EventForm(name, version, source_of(kind), doc_of(kind), json_schema(kind), tuple(sorted(rules)), becomes)


def _states(decision: Handler, *, guarded: bool) -> tuple[str, ...]:
    found = [each for each in decision.parameters if isinstance(each, StateParameter) and each.guarded is guarded]
    return tuple(sorted({each.kind.cls.__name__ for each in found}))


def _event_ids(kinds: Iterable[type]) -> tuple[str, ...]:
    """Return the ids of an app's own events among some classes."""
    return tuple(sorted({id_of(kind) for kind in kinds if issubclass(kind, Event) and kind not in BUILT_IN}))
