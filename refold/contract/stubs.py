"""What stubs for consumers are made from: the classes of a published contract, named once, whatever they are called."""

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from refold.contract.describe import EventForm, Published
from refold.contract.shape import DEFS, FIELDS, JsonSchema


class Part(Struct, frozen=True):
    """A field. In its schema each `$ref` is the name of a class of the stubs."""

    key: str
    schema: JsonSchema
    required: bool
    default: Any | UnsetType = UNSET

    @property
    def const(self) -> bool:
        """Whether it only says of which class a value is."""
        return "const" in self.schema


class Record(Struct, frozen=True):
    """A class with fields; `positional` if it is written as an array."""

    name: str
    doc: str
    parts: tuple[Part, ...]
    positional: bool = False


class Enumeration(Struct, frozen=True):
    """An enum and its values."""

    name: str
    values: tuple[Any, ...]


class Stubs(Struct, frozen=True):
    """All classes; and of each published event the type under which it is sent, and its class."""

    topic: str
    records: tuple[Record, ...]
    enums: tuple[Enumeration, ...]
    events: tuple[tuple[str, str], ...]


class Names:
    """Gives names that may be written in a program, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def has(self, name: str) -> bool:
        """Tell whether a name is given already."""
        return name in self._taken

    def new(self, wanted: str, otherwise: str = "Unnamed") -> str:
        """Return a name like one that is wanted."""
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", wanted).strip("_") or otherwise
        plain = f"{otherwise}_{plain}" if plain[0].isdigit() else plain
        name, number = (f"{plain}_" if keyword.iskeyword(plain) or plain in self._taken else plain), 2
        while name in self._taken:
            name, number = f"{plain}_{number}", number + 1
        self._taken.add(name)
        return name


def stubs_of(published: Published, taken: Iterable[str]) -> Stubs:
    """Collect what a published contract consists of; classes are not named as anything in `taken` is."""
    return _Collector(taken).collect(published)


class _Collector:
    def __init__(self, taken: Iterable[str]) -> None:
        self._names = Names(taken)
        self._records: list[Record] = []
        self._enums: list[Enumeration] = []
        self._known: dict[bytes, str] = {}

    def collect(self, published: Published) -> Stubs:
        newest = {each.name: each.version for each in sorted(published.events, key=lambda each: each.version)}
        names: dict[str, str] = {}
        for each in sorted(published.events, key=lambda each: (newest[each.name] != each.version, each.id)):
            wanted = each.name if newest[each.name] == each.version else f"{each.name}V{each.version}"
            names[each.id] = self._names.new(wanted, "Event")
        for each in published.events:
            self._event(each, names[each.id])
        events = tuple((each.id, names[each.id]) for each in published.events)
        return Stubs(published.topic, tuple(self._records), tuple(self._enums), events)

    def _event(self, form: EventForm, name: str) -> None:
        defs = cast(dict[str, JsonSchema], form.schema.get("$defs", {}))
        refs = {f"{DEFS}{form.schema.get('title', '')}": name}
        new = [(inner, schema) for inner, schema in defs.items() if self._name(inner, schema, defs, refs)]
        for inner, schema in new:
            self._define(refs[f"{DEFS}{inner}"], "", schema, refs)
        self._define(name, form.doc, form.schema, refs)

    def _name(self, inner: str, schema: JsonSchema, defs: Mapping[str, JsonSchema], refs: dict[str, str]) -> bool:
        """Name a class inside an event; tell whether it is new. The same one of another event is the same here."""
        root = [f"{ref}={name}" for ref, name in refs.items()][:1] if _refers_out(schema, defs) else []
        identity = msgspec.json.encode([inner, root, sorted(_reached(inner, defs).items())])
        new = identity not in self._known
        if new:
            title = str(schema.get("title", inner))
            own = f"{next(iter(refs.values()))}{title}" if self._names.has(title) else title
            self._known[identity] = self._names.new(own, "Value")
        refs[f"{DEFS}{inner}"] = self._known[identity]
        return new

    def _define(self, name: str, doc: str, schema: JsonSchema, refs: Mapping[str, str]) -> None:
        if "enum" in schema:
            self._enums.append(Enumeration(name, tuple(schema["enum"])))
            return
        parts = (
            Part(key, _resolved(each, refs), needed, each.get("default", UNSET))
            for key, each, needed in _fields(schema)
        )
        self._records.append(Record(name, doc, tuple(parts), FIELDS in schema))


def _fields(schema: JsonSchema) -> Iterator[tuple[str, JsonSchema, bool]]:
    """Return fields by their keys, and whether each must be there; the tag of an array has none."""
    if FIELDS in schema:
        items = cast(list[JsonSchema], schema["prefixItems"])
        keys = [*[""] * (len(items) - len(schema[FIELDS])), *schema[FIELDS]]
        for at, (key, each) in enumerate(zip(keys, items, strict=True)):
            yield key, each, at < schema["minItems"]
    else:
        for key, each in schema.get("properties", {}).items():
            yield key, each, key in schema.get("required", ())


def _reached(name: str, defs: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    """Return a class and all that is inside it."""
    found = {name: defs[name]}
    waiting = [name]
    while waiting:
        text = msgspec.json.encode(found[waiting.pop()])
        for other in defs:
            if other not in found and msgspec.json.encode({"$ref": f"{DEFS}{other}"})[1:-1] in text:
                found[other] = defs[other]
                waiting.append(other)
    return found


def _refers_out(schema: JsonSchema, defs: Mapping[str, JsonSchema]) -> bool:
    """Tell whether something inside an event holds the event, which is not among its `$defs`."""
    text = msgspec.json.encode(schema).decode()
    return any(ref not in defs for ref in re.findall(r'"\$ref":"#/\$defs/([^"]+)"', text))


def _resolved(schema: JsonSchema, refs: Mapping[str, str]) -> JsonSchema:
    """Return a schema with the names of classes for what it refers to."""
    found: JsonSchema = {}
    for key, value in schema.items():
        match key:
            case "$ref":
                found[key] = refs[value]
            case "anyOf" | "prefixItems":
                found[key] = [_resolved(each, refs) for each in value]
            case "items" | "additionalProperties" if isinstance(value, dict):
                found[key] = _resolved(cast(JsonSchema, value), refs)
            case _:
                found[key] = value
    return found


def in_order(schemas: Iterable[JsonSchema]) -> list[JsonSchema]:
    """Return members of a union in the order in which to try them: text of any form is taken last."""

    def place(schema: JsonSchema) -> int:
        if schema.get("type") == "number":
            return 1
        return 2 if schema.get("type") == "string" and "format" not in schema else 0

    return sorted(schemas, key=place)
