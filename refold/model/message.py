"""Events and commands: plain, frozen values."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, TypeVar, dataclass_transform

from msgspec import Struct, field

from refold.errors import WiringError


class StoredAs(NamedTuple):
    """The name and version under which events of a class are stored."""

    name: str
    version: int


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Event(Struct, frozen=True, gc=False):
    """A fact, in the past tense. Its fields are what is stored."""

    __stored_as__: ClassVar[StoredAs]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Command(Struct, frozen=True):
    """A request, in the imperative. A decision turns it into events, or refuses it."""


E = TypeVar("E", bound=Event)


def stored_as(name: str, version: int = 1) -> Callable[[type[E]], type[E]]:
    """Say under which name and version an event class is stored; needed once an event has evolved.

    Without it the name is that of the class, and the version 1.
    """
    if not name or version < 1:
        raise WiringError(f"stored_as({name!r}, version={version}): an event needs a name, and versions start at 1")

    def mark(kind: type[E]) -> type[E]:
        kind.__stored_as__ = StoredAs(name, version)
        return kind

    return mark


def stored_name(kind: type[Event]) -> StoredAs:
    """Return the name and version under which events of a class are stored."""
    # Looked up in the class itself: a subclass is another event.
    return vars(kind).get("__stored_as__") or StoredAs(kind.__name__, 1)
