"""Handlers: what a decision's or a process's signature says, and how the states that it asks for are found.

The first parameter is the message. Every other one is a state, found by matching the tags of the state's key with
the message's fields; or `Metadata`; or, in an `async def`, a `Reader`. What cannot be bound is refused at wiring.
"""

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from itertools import product
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, get_args, get_origin

from msgspec import Struct

from refold.errors import WiringError
from refold.model.hints import described, hints, members, peeled
from refold.model.message import Command, Event
from refold.model.record import Metadata
from refold.model.state import Identity, State, StateKind, state_kind
from refold.model.tag import TagPath, tag_paths

S = TypeVar("S", bound=State)
Message: TypeAlias = Event | Command


class Of(Struct, frozen=True):
    """Says from which field of the message a state's key comes: `source: Annotated[Account, Of("source")]`."""

    field: str


class Unguarded:
    """Marks a state that is read but not guarded: `price: Annotated[Price, Unguarded]`."""


class Reader(Protocol):
    """Loads states for a decision whose reads depend on what it reads; all of them are guarded."""

    async def load(self, state: S) -> S:
        """Return the state with this key as it is now."""
        ...


class IdempotencyKey(str):
    """The same for an effect and an event however often it is delivered: give it to what must not do a thing twice."""

    __slots__ = ()


class StateParameter(Struct, frozen=True):
    """A parameter that takes a state, or with `*` all states of a kind that the message names."""

    name: str
    kind: StateKind
    sources: Mapping[type, tuple[tuple[TagPath, ...], ...]]
    """For each class of message, and each field of the key, the places where its values are."""
    many: bool
    guarded: bool

    def states(self, message: Message) -> list[State]:
        """Return the initial states that a message names."""
        values = [
            dict.fromkeys(value for path in paths for value in path.read(message))
            for paths in self.sources[type(message)]
        ]
        if not self.many and not all(values):
            raise WiringError(
                f"the parameter {self.name!r} needs a {self.kind.cls.__name__}, but {message!r} leaves its key empty. "
                f"Take any number of them: `*{self.name}: {self.kind.cls.__name__}`"
            )
        return [self.kind.initial(*key) for key in product(*values)]


Parameter: TypeAlias = StateParameter | Literal["metadata", "reader", "once"]


class Handler(Struct, frozen=True):
    """A decision or process, read off its signature."""

    function: Callable[..., Any]
    messages: tuple[type, ...]
    parameters: tuple[Parameter, ...]
    names: tuple[str | None, ...]
    """For each parameter its name, if it can be given by name only."""
    emits: tuple[type, ...] | None
    """The classes of the messages that it returns, if its annotation says so."""

    @property
    def name(self) -> str:
        """What the function is called."""
        return self.function.__name__

    def states(self, message: Message) -> list[tuple[StateParameter, list[State]]]:
        """Return the initial states that it asks for, parameter by parameter."""
        return [(each, each.states(message)) for each in self.parameters if isinstance(each, StateParameter)]

    async def call(
        self,
        message: Message,
        loaded: Mapping[Identity, State],
        metadata: Metadata,
        reader: Reader | None,
        once: IdempotencyKey | None = None,
    ) -> list[Any]:
        """Call the function with loaded states; return the messages that it gives."""
        positional: list[Any] = [message]
        named: dict[str, Any] = {}
        for parameter, name in zip(self.parameters, self.names, strict=True):
            if isinstance(parameter, StateParameter):
                values = [loaded[parameter.kind.identity(state)] for state in parameter.states(message)]
                if parameter.many:
                    positional += values
                    continue
                value: Any = values[0]
            else:
                value = {"metadata": metadata, "reader": reader, "once": once}[parameter]
            if name is None:
                positional.append(value)
            else:
                named[name] = value
        result: object = self.function(*positional, **named)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, AsyncIterable):
            return [each async for each in cast(AsyncIterable[object], result)]
        return self._listed(result)

    def _listed(self, result: object) -> list[Any]:
        if result is None:
            return []
        if isinstance(result, Event | Command):
            return [result]
        if not isinstance(result, Iterable):
            raise WiringError(f"{described(self.function)} returned {result!r}, which is no message")
        return list(cast(Iterable[object], result))


def read_decision(function: Callable[..., Any]) -> Handler:
    """Read `(command, *states) -> events`, or raise `WiringError`."""
    return _read(function, takes=Command, gives=Event, example="(command: PlaceOrder, order: Order)")


def read_process(function: Callable[..., Any]) -> Handler:
    """Read `(event, *states) -> commands`, or raise `WiringError`."""
    return _read(function, takes=Event, gives=Command, example="(event: OrderPlaced, order: Order)")


def read_effect(function: Callable[..., Any]) -> Handler:
    """Read `async (event, *states, once) -> commands or nothing`, or raise `WiringError`."""
    example = "(event: OrderShipped, once: IdempotencyKey)"
    if inspect.isfunction(function) and not inspect.iscoroutinefunction(function):
        raise WiringError(
            f"{described(function)} touches the world, so it waits: `async def {function.__name__}{example}`"
        )
    return _read(function, takes=Event, gives=Command, example=example, once=True)


def read_translation(function: Callable[..., Any]) -> Handler:
    """Read `(event) -> events or commands`, what a contract is crossed by, or raise `WiringError`."""
    handler = _read(function, takes=Event, gives=Struct, example="(event: OrderPlaced)")
    if any(each != "metadata" for each in handler.parameters) or inspect.iscoroutinefunction(function):
        raise WiringError(
            f"{described(function)} translates an event, and sees nothing but it and its `Metadata`; "
            "what depends on a state is for a decision to say"
        )
    return handler


def _read(function: Callable[..., Any], *, takes: type, gives: type, example: str, once: bool = False) -> Handler:
    if not inspect.isfunction(function):
        raise WiringError(f"{function!r} is not a function; decisions and processes are plain functions")
    annotations = hints(function)
    parameters = list(inspect.signature(function).parameters.values())
    first = annotations.get(parameters[0].name) if parameters else None
    messages = tuple(dict.fromkeys(members(first)))
    by_position = bool(parameters) and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    said = all(isinstance(each, type) and issubclass(each, takes) and each is not takes for each in messages)
    if not (by_position and said):
        raise WiringError(
            f"{described(function)} must take {_a(takes)} first, and say which: `{function.__name__}{example}`"
        )
    read: list[Parameter] = []
    names: list[str | None] = []
    for parameter in parameters[1:]:
        if parameter.name not in annotations:
            raise WiringError(f"{described(function)}: say what {parameter.name!r} is, as in `{example}`")
        if once and peeled(annotations[parameter.name])[0] is IdempotencyKey:
            read.append("once")
        else:
            read.append(_parameter(function, parameter, annotations[parameter.name], messages))
        names.append(parameter.name if parameter.kind is parameter.KEYWORD_ONLY else None)
    return Handler(function, messages, tuple(read), tuple(names), _emits(function, annotations.get("return"), gives))


def _parameter(
    function: Callable[..., Any], parameter: inspect.Parameter, annotation: Any, messages: tuple[type, ...]
) -> Parameter:
    inner, marks = peeled(annotation)
    if parameter.kind is parameter.VAR_KEYWORD:
        raise WiringError(f"{described(function)}: write `*{parameter.name}` for several states of one kind")
    if inner is Metadata:
        return "metadata"
    if inner is Reader:
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            raise WiringError(f"{described(function)} takes a Reader, so it must be an `async def`")
        return "reader"
    if not isinstance(inner, type) or not issubclass(inner, State):
        raise WiringError(
            f"{described(function)}: {parameter.name!r} is annotated {inner!r}; "
            "besides the message a handler takes states, `Metadata` and, in an `async def`, a `Reader`"
        )
    kind = state_kind(inner)
    many = parameter.kind is parameter.VAR_POSITIONAL
    of = next((mark.field for mark in marks if isinstance(mark, Of)), None)
    for message in messages if of is not None else ():
        tags = [key.tag for key in kind.keys]
        if not any(of in (path.field, path.where) and path.tag in tags for path in tag_paths(message)):
            raise WiringError(
                f"{described(function)}: {parameter.name!r} is said to be of {of!r}, but {message.__name__} has no "
                f"field of that name tagged {' or '.join(repr(tag.name) for tag in tags)}"
            )
    sources = {
        message: tuple(
            _source(function, parameter.name, kind, index, message, of, many=many) for index in range(len(kind.keys))
        )
        for message in messages
    }
    return StateParameter(parameter.name, kind, sources, many, Unguarded not in marks)


def _source(
    function: Callable[..., Any], name: str, kind: StateKind, index: int, message: type, of: str | None, *, many: bool
) -> tuple[TagPath, ...]:
    """Find the places in a message class that give one field of a state's key."""
    key = kind.keys[index]
    state = kind.cls.__name__
    paths = [path for path in tag_paths(message) if path.tag == key.tag]
    # A key of several fields may have only one of them named.
    paths = [path for path in paths if of in (path.field, path.where)] or paths
    if not paths:
        raise WiringError(
            f"{described(function)}: the key of {name}: {state} is tagged {key.tag.name!r}, but {message.__name__} has "
            f"no field with that tag. Give it one: `{key.name}: Annotated[{key.type.__name__}, Tag('{key.tag.name}')]`"
        )
    for path in paths:
        if path.kind is not key.type:
            raise WiringError(
                f"{described(function)}: {state}.{key.name} is of type {key.type.__name__}, "
                f"but {message.__name__}.{path.where}, with the same tag, is of type {path.kind.__name__}"
            )
    if many:
        return tuple(paths)
    among_many = next((path.where for path in paths if path.many), None)
    if among_many is not None:
        raise WiringError(
            f"{described(function)}: {message.__name__}.{among_many} may name many {state}s. "
            f"Take them all: `*{name}: {state}`"
        )
    if len(paths) > 1:
        raise WiringError(
            f"{described(function)}: {name}: {state} could come from {' or '.join(path.where for path in paths)} of "
            f"{message.__name__}. Say which: `{name}: Annotated[{state}, Of({paths[0].where!r})]`"
        )
    return tuple(paths)


def _emits(function: Callable[..., Any], annotation: Any, gives: type) -> tuple[type, ...] | None:
    """Read the return annotation: a message, a union of them, or an iterable of either."""
    found: list[Any] = []
    for member in members(annotation):
        arguments = get_args(member) if get_origin(member) else (member,)
        # Of a Generator[Yield, Send, Return] only the first counts; an Iterable has just one, a tuple many.
        for argument in arguments if get_origin(member) is tuple else arguments[:1]:
            found += [each for each in members(argument) if each is not type(None) and each is not Ellipsis]
    # Any is a class since Python 3.11, but says nothing.
    if annotation is None or not found or not all(isinstance(each, type) and each is not Any for each in found):
        return None
    wrong = [each for each in found if not issubclass(each, gives)]
    if wrong:
        raise WiringError(f"{described(function)} is annotated to return {wrong[0].__name__}, which is not {_a(gives)}")
    return tuple(each for each in found if each is not gives) or None


def _a(kind: type) -> str:
    return f"an {kind.__name__}" if kind.__name__[0] in "AEIOU" else f"a {kind.__name__}"
