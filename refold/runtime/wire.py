"""Reading what an app is made of, and refusing what could not work."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar, cast

from refold.errors import WiringError
from refold.model.handler import Handler
from refold.model.hints import described
from refold.model.message import Command
from refold.model.schema import Schema
from refold.model.timer import Cancel, Later
from refold.runtime.project import Definition, Kept, StateProjection
from refold.runtime.react import Process
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


def check(
    projections: Sequence[Definition], processes: Sequence[Process], decisions: Mapping[type[Command], Handler]
) -> None:
    """Refuse names that come twice, and commands of processes that nothing decides."""
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
    for process in processes:
        for command in process.handler.emits or ():
            if command not in decisions and command not in (Later, Cancel):
                raise WiringError(
                    f"{described(process.handler.function)} emits {command.__name__}, which no decision takes: "
                    "add one to `decisions`"
                )
