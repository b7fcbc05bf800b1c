"""Events made on the spot, and the contracts of apps that have them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec

from refold import Event, State, Tag, stored_as
from refold.contract.describe import (
    Contract,
    FollowerForm,
    Published,
    Taken,
    command_forms,
    event_forms,
    state_forms,
)
from refold.model.handler import read_decision
from refold.model.schema import Schema

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]
Field: TypeAlias = tuple[str, Any] | tuple[str, Any, Any]


def made(name: str, *fields: Field, version: int = 1, called: str = "") -> type[Event]:
    """Make a class of events."""
    kind = msgspec.defstruct(called or name, fields, bases=(Event,), frozen=True, module=__name__)
    return stored_as(name, version)(kind)


def placed(*fields: Field, version: int = 1) -> type[Event]:
    """Make a version of the event that most is tried with."""
    return made("OrderPlaced", ("order_id", OrderId), *fields, version=version)


def told(
    *events: type[Event],
    upcasters: Sequence[Callable[..., Any]] = (),
    decisions: Iterable[Callable[..., Any]] = (),
    states: Iterable[type[State]] = (),
    published: Sequence[type[Event]] | None = None,
    topic: str = "shop",
    followers: Sequence[FollowerForm] = (),
    taken: Sequence[type[Event]] | None = None,
) -> Contract:
    """Return the contract of an app that has these events."""
    schema = Schema(list(events), upcasters, own=False)
    handlers = [read_decision(each) for each in decisions]
    return Contract(
        app="shop",
        events=event_forms(schema),
        commands=command_forms({command: each for each in handlers for command in each.messages}),
        states=state_forms(states),
        published=None
        if published is None
        else Published(topic, event_forms(Schema(list(published), own=False)) if published else ()),
        followers=tuple(followers),
        taken=() if taken is None else (Taken("parcels", event_forms(Schema(list(taken), own=False)), ()),),
    )
