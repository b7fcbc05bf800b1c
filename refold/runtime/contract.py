"""The contract of an app, put together from what it is wired with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from refold.contract.describe import (
    Contract,
    FollowerForm,
    command_forms,
    event_forms,
    follower,
    published,
    state_forms,
    taken,
)
from refold.model.handler import Handler
from refold.model.message import Command, Event
from refold.model.schema import Schema
from refold.model.state import State
from refold.runtime.inbox import Entrance
from refold.runtime.outbox import Outbox
from refold.runtime.project import Definition
from refold.runtime.react import Process


def contract_of(
    name: str,
    schema: Schema,
    decisions: Mapping[type[Command], Handler],
    states: Iterable[type[State]],
    projections: Sequence[Definition],
    processes: Sequence[Process],
    outbox: Outbox | None,
    entrances: Sequence[Entrance],
) -> Contract:
    """Describe an app."""
    followers: list[FollowerForm] = [
        *(follower("projection", each.how.projection, each.events) for each in projections),
        *(follower(each.kind, each.handler, cast(Sequence[type[Event]], each.handler.messages)) for each in processes),
    ]
    return Contract(
        app=name,
        events=event_forms(schema),
        commands=command_forms(decisions),
        states=state_forms(states),
        followers=tuple(sorted(followers, key=lambda each: (each.kind, each.name))),
        published=published(outbox.context, outbox.public, outbox.as_they_are, outbox.translations) if outbox else None,
        taken=tuple(
            sorted(
                (taken(each.topic, each.foreign, each.handlers) for each in entrances), key=lambda each: each.context
            )
        ),
    )
