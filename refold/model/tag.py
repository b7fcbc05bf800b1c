"""What an event is about: tags, and how they are derived from the fields of a message.

A tag is `name:value`. A field says that it is one by its annotation, `Annotated[str, Tag("order")]`; tags inside
collections and nested structs count too. So one compiled list of paths for each message class tells both the tags
of an event and where a decision finds the key of a state that it asks for.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeAlias, cast, get_args, get_origin
from uuid import UUID

from msgspec import Struct

from refold.errors import InvalidEvent, WiringError
from refold.model.hints import described, hints, members, peeled

TagValue: TypeAlias = str | int | UUID | date | Enum
_COLLECTIONS = (tuple, list, set, frozenset)
_VALUES = (str, int, UUID, date, Enum)


class Tag(Struct, frozen=True):
    """Marks a field whose value is one of the things that a message is about."""

    name: str

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise WiringError(f"Tag({self.name!r}): a tag needs a name, without a colon")

    def text(self, value: TagValue) -> str:
        """Write the tag as the log holds it, `name:value`."""
        if isinstance(value, str) and not isinstance(value, Enum):
            if not value:
                raise InvalidEvent(f"the tag {self.name!r} has an empty value")
            return f"{self.name}:{value}"
        return f"{self.name}:{_plain(value)}"


class TagPath(Struct, frozen=True):
    """One place in a message class where a tag stands."""

    tag: Tag
    field: str
    """The top-level field that it is in."""
    where: str
    """The whole path, for people: `lines[].sku`."""
    many: bool
    kind: type
    read: Callable[[Any], Iterable[Any]]
    """Returns the values that a message has there; no None among them."""


@cache
def tag_paths(kind: type[Struct]) -> tuple[TagPath, ...]:
    """Return where the tags of a message class stand, in the order of its fields."""
    found: list[TagPath] = []
    for name, annotation in _fields(kind):
        found += (
            TagPath(leaf.tag, name, leaf.where, leaf.many, leaf.kind, leaf.read)
            for leaf in _leaves(annotation, name, _getter(name), many=False, inside=(kind,))
        )
    return tuple(found)


def tags_of(message: Struct) -> tuple[str, ...]:
    """Return the tags of a message, each once."""
    tags = [path.tag.text(value) for path in tag_paths(type(message)) for value in path.read(message)]
    return tuple(dict.fromkeys(tags)) if len(tags) > 1 else tuple(tags)


def _fields(kind: type) -> Iterator[tuple[str, Any]]:
    annotations = hints(kind)
    return ((name, annotations[name]) for name in getattr(kind, "__struct_fields__", ()))


class _Leaf(Struct):
    tag: Tag
    where: str
    many: bool
    kind: type
    read: Callable[[Any], Iterable[Any]]


def _leaves(
    annotation: Any, where: str, read: Callable[[Any], Iterable[Any]], *, many: bool, inside: tuple[type, ...]
) -> Iterator[_Leaf]:
    """Walk a field's annotation; `read` leads from the message to what it annotates."""
    inner, marks = peeled(annotation)
    tag = next((mark for mark in marks if isinstance(mark, Tag)), None)
    for member in members(inner):
        origin = get_origin(member) or member
        if origin in _COLLECTIONS or (isinstance(origin, type) and issubclass(origin, Mapping)):
            step = _items if origin in _COLLECTIONS else _entries
            for argument in dict.fromkeys(get_args(member)):
                if argument is not Ellipsis:
                    marked = argument if tag is None else _mark(argument, tag)
                    yield from _leaves(marked, f"{where}[]", step(read), many=True, inside=inside)
        elif not isinstance(origin, type) or origin is type(None):
            continue
        elif issubclass(origin, Struct):
            if origin not in inside:
                for name, annotated in _fields(origin):
                    yield from _leaves(
                        annotated,
                        f"{where}.{name}",
                        _attribute(read, origin, name),
                        many=many,
                        inside=(*inside, origin),
                    )
        elif tag is not None:
            if not issubclass(origin, _VALUES) or origin is bool:
                raise WiringError(
                    f"{described(inside[0])}.{where} is tagged {tag.name!r} but is a {origin.__name__}; "
                    "a tag is made of a str, int, UUID, date or enum"
                )
            yield _Leaf(tag, where, many, origin, _only(read, origin))


def _mark(annotation: Any, tag: Tag) -> Any:
    return Annotated[annotation, tag]


def _getter(name: str) -> Callable[[Any], Iterable[Any]]:
    return lambda message: (getattr(message, name),)


def _items(read: Callable[[Any], Iterable[Any]]) -> Callable[[Any], Iterable[Any]]:
    return lambda message: [
        item
        for found in read(message)
        if isinstance(found, _COLLECTIONS)
        for item in _listed(cast(Collection[object], found))
    ]


def _entries(read: Callable[[Any], Iterable[Any]]) -> Callable[[Any], Iterable[Any]]:
    return lambda message: [
        part
        for found in read(message)
        if isinstance(found, Mapping)
        for entry in cast(Mapping[object, object], found).items()
        for part in entry
    ]


def _attribute(read: Callable[[Any], Iterable[Any]], kind: type, name: str) -> Callable[[Any], Iterable[Any]]:
    return lambda message: [getattr(found, name) for found in read(message) if isinstance(found, kind)]


def _only(read: Callable[[Any], Iterable[Any]], kind: type) -> Callable[[Any], Iterable[Any]]:
    return lambda message: [value for value in read(message) if isinstance(value, kind)]


def _listed(found: Collection[object]) -> list[object]:
    # Sets have no order of their own; tags should not depend on the hash seed.
    return sorted(found, key=repr) if isinstance(found, (set, frozenset)) else list(found)


def _plain(value: TagValue) -> str:
    if isinstance(value, Enum):
        return _plain(value.value)
    return value.isoformat() if isinstance(value, date) else str(value)
