"""What an event is about: tags, and how they are derived from the fields of a message.

A tag is `name:value`. A field says that it is one by its annotation, `Annotated[str, Tag("order")]`; tags inside
collections and nested structs count too. So one compiled list of paths for each message class tells both the tags
of an event and where a decision finds the key of a state that it asks for.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, TypeAlias, cast, get_args, get_origin
from uuid import UUID

from msgspec import Struct

from refold.errors import InvalidEvent, WiringError
from refold.model.hints import described, hints, is_union, peeled

TagValue: TypeAlias = str | int | UUID | date | Enum
Read: TypeAlias = Callable[[Any], Iterable[Any]]

_COLLECTIONS = (tuple, list, set, frozenset)
_VALUES = (str, int, UUID, date, Enum)
_NO_VALUES = (bool, datetime)
"""A moment written in two zones is one value but would be two tags."""
_PLAIN = (str, int, UUID, date)
"""What reads in a tag as it does in a text."""
_RECORDS = ("__dataclass_fields__", "__attrs_attrs__", "__total__", "_fields")
"""How to know classes with fields that are no structs: dataclasses, attrs, TypedDicts and NamedTuples."""


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
    read: Read
    """Returns the values that a message has there; no None among them."""


@cache
def tag_paths(kind: type[Struct]) -> tuple[TagPath, ...]:
    """Return where the tags of a message class stand, in the order of its fields."""
    return tuple(
        TagPath(leaf.tag, name, leaf.where, leaf.many, leaf.kind, leaf.read)
        for name, annotation in _fields(kind)
        for leaf in _leaves(annotation, None, _Place(name, _getter(name), many=False, inside=(kind,)))
    )


def tags_of(message: Struct) -> tuple[str, ...]:
    """Return the tags of a message, each once."""
    kind = type(message)
    tags: list[str] = []
    for name, prefix, plain in _plain_tags(kind):
        value = getattr(message, name)
        if type(value) is not plain or value == "":
            break
        tags.append(f"{prefix}{value}")
    else:
        if tags:
            return tuple(tags)
    return tuple(dict.fromkeys(path.tag.text(value) for path in tag_paths(kind) for value in path.read(message)))


def has_tags(message: Struct, tags: Collection[str]) -> bool:
    """Tell whether the tags of a message are among some; in doubt no."""
    plain = _plain_tags(type(message))
    for name, prefix, kind in plain:
        value = getattr(message, name)
        if type(value) is not kind or f"{prefix}{value}" not in tags:
            return False
    return bool(plain)


def can_be_tag(kind: object) -> bool:
    """Tell whether values of a class can be tags."""
    return _is(kind, _VALUES) and not _is(kind, _NO_VALUES)


@cache
def _plain_tags(kind: type[Struct]) -> tuple[tuple[str, str, type], ...]:
    """Return field, prefix and type of each tag of a class, if all are plain values at its top; nothing otherwise.

    Most messages are like that, and every event that is recorded comes by here.
    """
    paths = tag_paths(kind)
    different = len({path.tag for path in paths}) == len(paths)
    if different and all(path.where == path.field and path.kind in _PLAIN for path in paths):
        return tuple((path.field, f"{path.tag.name}:", path.kind) for path in paths)
    return ()


def _fields(kind: type) -> Iterator[tuple[str, Any]]:
    annotations = hints(kind)
    return ((name, annotations[name]) for name in getattr(kind, "__struct_fields__", ()))


class _Place(Struct):
    """A place in a message class, and how to get there."""

    where: str
    read: Read
    many: bool
    inside: tuple[type, ...]
    """The message class and the structs around this place."""


class _Leaf(Struct):
    tag: Tag
    where: str
    many: bool
    kind: type
    read: Read


def _leaves(annotation: Any, tag: Tag | None, place: _Place) -> Iterator[_Leaf]:
    """Walk what stands at a place; a tag of a collection or union is one of everything in it."""
    inner, marks = peeled(annotation)
    tag = next((mark for mark in marks if isinstance(mark, Tag)), tag)
    kind: Any = get_origin(inner) or inner
    if is_union(inner):
        for member in get_args(inner):
            yield from _leaves(member, tag, place)
    elif _is(kind, Collection) and get_args(inner):
        for argument, step in _steps(kind, get_args(inner), place):
            yield from _leaves(argument, tag, step)
    elif tag is not None and kind is not NoneType:
        if not can_be_tag(kind):
            raise WiringError(
                f"{described(place.inside[0])}.{place.where} is tagged {tag.name!r} but is a "
                f"{getattr(kind, '__name__', kind)}; a tag is made of a str, int, UUID, date or enum"
            )
        yield _Leaf(tag, place.where, place.many, kind, _only(place.read, kind))
    elif _is(kind, object):
        yield from _leaves_of_fields(kind, place)


def _leaves_of_fields(kind: type, place: _Place) -> Iterator[_Leaf]:
    struct = _is(kind, Struct)
    # What contains itself is walked once more, to see whether tags would be missed.
    if place.inside.count(kind) == 2 or not (struct or any(hasattr(kind, mark) for mark in _RECORDS)):
        return
    for name, annotation in _fields(kind) if struct else hints(kind).items():
        where = f"{place.where}.{name}"
        step = _Place(where, _attribute(place.read, kind, name), place.many, (*place.inside, kind))
        for leaf in _leaves(annotation, None, step):
            if not struct:
                raise WiringError(
                    f"{described(place.inside[0])}.{where} is tagged, but tags are found in structs only: "
                    f"make {kind.__name__} a msgspec.Struct"
                )
            if kind in place.inside:
                raise WiringError(
                    f"{described(place.inside[0])}.{where} is tagged, but {kind.__name__} contains itself: "
                    "collect what the message is about in a field of its own"
                )
            yield leaf


def _steps(kind: type, arguments: tuple[Any, ...], place: _Place) -> Iterator[tuple[Any, _Place]]:
    """Lead into a collection: to what its parts are, and where."""
    where = f"{place.where}[]"
    if issubclass(kind, Mapping):
        for argument, part in zip(arguments, (_keys, _values), strict=True):
            yield argument, _Place(where, part(place.read), many=True, inside=place.inside)
    elif issubclass(kind, tuple) and Ellipsis not in arguments:
        for index, argument in enumerate(arguments):
            yield argument, _Place(f"{place.where}[{index}]", _item(place.read, index), place.many, place.inside)
    else:
        yield arguments[0], _Place(where, _items(place.read), many=True, inside=place.inside)


def _is(kind: Any, what: type | tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, what)


def _getter(name: str) -> Read:
    return lambda message: (getattr(message, name),)


def _items(read: Read) -> Read:
    return lambda message: [
        item
        for found in read(message)
        if isinstance(found, _COLLECTIONS)
        for item in _listed(cast(Collection[object], found))
    ]


def _item(read: Read, index: int) -> Read:
    return lambda message: [
        item
        for found in read(message)
        if isinstance(found, tuple)
        for item in cast(tuple[object, ...], found)[index : index + 1]
    ]


def _keys(read: Read) -> Read:
    return lambda message: [key for found in _mappings(read(message)) for key in found]


def _values(read: Read) -> Read:
    return lambda message: [value for found in _mappings(read(message)) for value in found.values()]


def _mappings(found: Iterable[object]) -> list[Mapping[object, object]]:
    return [cast(Mapping[object, object], each) for each in found if isinstance(each, Mapping)]


def _attribute(read: Read, kind: type, name: str) -> Read:
    return lambda message: [getattr(found, name) for found in read(message) if isinstance(found, kind)]


def _only(read: Read, kind: type) -> Read:
    return lambda message: [value for value in read(message) if isinstance(value, kind)]


def _listed(found: Collection[object]) -> list[object]:
    # Sets have no order of their own; tags should not depend on the hash seed.
    return sorted(found, key=repr) if isinstance(found, (set, frozenset)) else list(found)


def _plain(value: TagValue) -> str:
    if isinstance(value, Enum):
        return _plain(value.value)
    return value.isoformat() if isinstance(value, date) else str(value)
