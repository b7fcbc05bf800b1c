"""Reading what an app is made of, and refusing what could not work."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

from refold.bus.api import Bus, checked
from refold.bus.open import check_bus_url
from refold.errors import WiringError
from refold.model.handler import Handler
from refold.model.hints import described
from refold.model.message import Command
from refold.model.schema import Schema
from refold.model.timer import Cancel, Later
from refold.runtime.inbox import Entrance, Inbox
from refold.runtime.outbox import Outbox
from refold.runtime.project import Definition, Kept, StateProjection
from refold.runtime.react import Process
from refold.runtime.rows import RowState
from refold.runtime.tables import Projection, TableProjection

T = TypeVar("T")


def several(name: str, given: Iterable[T]) -> list[T]:
    """Read one of the lists that an app is made of."""
    if isinstance(given, str | type) or not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WiringError(f"{name} takes a list: write {name}=[{getattr(given, '__name__', '…')}]")
    return list(given)


def definition(given: object, schema: Schema) -> Definition:
    """Read a projection: a class, or what `kept` says of one."""
    how = given if isinstance(given, Kept) else Kept(cast(type, given))
    if isinstance(how.projection, type) and issubclass(how.projection, Projection):  # pyright: ignore[reportUnnecessaryIsInstance]
        return TableProjection(how, schema)
    return StateProjection(how, schema)


def folder(analytics: str | Path | None) -> Path | None:
    """Read where the mirror is to be; refuse it if what it takes is not installed."""
    if analytics is None:
        return None
    from refold.view import parquet

    assert parquet
    return Path(analytics)


def borders(
    name: str, bus: str | Bus | None, outbox: Sequence[Any], inbox: Sequence[Inbox], schema: Schema
) -> tuple[Outbox | None, list[Entrance]]:
    """Read what leaves for other contexts, and what enters from them."""
    if not outbox and not inbox:
        return None, []
    if not name or bus is None:
        raise WiringError(
            "an app with an outbox or inbox has a name, by which others know it, and a broker: "
            "name='shop', bus='nats://localhost:4222'"
        )
    if isinstance(bus, str):
        check_bus_url(bus)
    entrances = [Entrance(each, schema) for each in inbox]
    for entrance in entrances:
        if [each.topic for each in entrances].count(entrance.topic) > 1:
            raise WiringError(f"two inboxes are of {entrance.topic!r}: give all its functions to one")
    return Outbox(checked(name, "context"), outbox, schema) if outbox else None, entrances


def check_rows(rows: Sequence[RowState], projections: Sequence[Definition], processes: Sequence[Process]) -> None:
    """Refuse what cannot be with states that are kept as rows."""
    names: set[str] = set()
    kept = {each.how.projection for each in projections}
    for each in rows:
        cls = described(each.kind.cls)
        if each.name.casefold() in names:
            raise WiringError(f"two states in `rows` are called {each.name!r}; their tables need two names")
        names.add(each.name.casefold())
        if each.kind.cls in kept:
            raise WiringError(
                f"{cls} is in `rows` and in `projections`: its rows are the truth, or a view of its events. Leave it "
                "in one of them"
            )
    classes = {each.kind.cls for each in rows}
    for process in processes:
        for parameter in process.handler.parameters:
            if not isinstance(parameter, str) and parameter.kind.cls in classes:
                raise WiringError(
                    f"{described(process.handler.function)} asks for {parameter.kind.cls.__name__}, which is kept as "
                    "rows: a process sees states as they were at its event, and rows have no past. Let the decision "
                    "of its command ask for it, or keep it as events"
                )


def check(
    projections: Sequence[Definition],
    processes: Sequence[Process],
    entrances: Sequence[Entrance],
    decisions: Mapping[type[Command], Handler],
    schema: Schema,
    rows: Sequence[RowState],
) -> None:
    """Refuse names that come twice, commands of processes that nothing decides, and states that miss old events."""
    by_row = {each.kind.cls for each in rows}  # which are not found by tags
    for handler in [*decisions.values(), *(process.handler for process in processes)]:
        for parameter in handler.parameters:
            if not isinstance(parameter, str) and parameter.kind.cls not in by_row:
                schema.check_found(parameter.kind)
    names: set[str] = set()
    for command in decisions:
        if command.__name__ in names:
            raise WiringError(f"two commands are called {command.__name__}; a timer names what it executes: rename one")
        names.add(command.__name__)
    names = set()
    tables = [dict.fromkeys([each.name, *(t.name for t in each.tables(""))]) for each in projections]
    for name in [*chain.from_iterable(tables), *(each.name for each in processes)]:
        if name.casefold() in names:  # tables are named after them, and databases do not tell Ab from aB
            raise WiringError(f"two projections or processes are called {name!r}; their checkpoints need two names")
        names.add(name.casefold())
    for entrance in entrances:
        for function, command in entrance.commands():
            if command not in decisions:
                raise WiringError(
                    f"{described(function)} gives {command.__name__}, which no decision takes: add one to `decisions`"
                )
    for process in processes:
        for command in process.handler.emits or ():
            if command not in decisions and command not in (Later, Cancel):
                raise WiringError(
                    f"{described(process.handler.function)} emits {command.__name__}, which no decision takes: "
                    "add one to `decisions`"
                )
