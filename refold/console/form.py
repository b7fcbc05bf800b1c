"""A form made from the JSON Schema of a command, and what was written into it as the command's JSON.

Each field has a path, `lines.0.sku`. In the page it is called `f.lines.0.sku`, and `n.lines` says how many lines there
are. What no input suits (dicts, unions, what is nested deeply) is written as JSON.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from refold.contract.fields import said_of, type_text
from refold.contract.shape import DEFS, FIELDS, ZONE, JsonSchema
from refold.http.call import whole

Kind: TypeAlias = Literal["text", "number", "decimal", "moment", "date", "flag", "choice", "json", "group", "list"]
DEEPEST = 4
"""How many groups stand in each other, until what is within is written as JSON."""
MOST = 40
"""Entries of a list in a form."""
MOST_FIELDS = 1_500
"""Fields of a form, from which on lists take no more entries."""
PLAIN: Mapping[str, Kind] = {"string": "text", "integer": "number", "number": "number", "boolean": "flag"}
FORMATS: Mapping[str, Kind] = {"decimal": "decimal", "date-time": "moment", "date": "date"}
PART = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")
MINUTES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
ZONED = re.compile(r"(Z|[+-]\d\d:?\d\d)$", re.IGNORECASE)


class Field(Struct):
    """One field, with what stands in it."""

    path: str
    label: str
    kind: Kind
    type: str
    required: bool
    nullable: bool = False
    zoned: bool = True
    said: str = ""
    """What its author says of it, and what bounds it."""
    default: str = ""
    """As JSON: what is taken if it is left empty."""
    options: Sequence[str] = ()
    raw: str = ""
    parts: list["Field"] = []
    """The fields of a group, or the entries of a list."""
    error: str = ""

    @property
    def name(self) -> str:
        """What it is called in the page."""
        return f"f.{self.path}"

    def value(self) -> Any:
        """Return what is written as a value of JSON; `UNSET` if nothing is."""
        match self.kind:
            case "group":
                return self._group()
            case "list":
                return self._entries()
            case "flag":
                return self.raw == "true"
            case _ if self.raw == "":
                return None if self.nullable and self.required else UNSET
            case "text" | "decimal" | "date":
                return self.raw
            case "moment":
                whole = f"{self.raw}:00" if MINUTES.fullmatch(self.raw) else self.raw
                return f"{whole}Z" if self.zoned and not ZONED.search(whole) else whole
            case _:
                return _json(self.raw)

    def is_empty(self) -> bool:
        """Tell whether nothing is written, and nothing is chosen or ticked but what was so by itself."""
        match self.kind:
            case "group" | "list":
                return all(part.is_empty() for part in self.parts)
            case "flag":
                return (self.raw == "true") == (self.default == "true")
            case "choice":
                return self.raw in ("", self.default)
            case _:
                return self.raw == ""

    def entry(self, path: str) -> str:
        """Return the path of what has a path in a list's JSON, from which entries that are left empty are gone."""
        number, _, rest = path.removeprefix(f"{self.path}.").partition(".")
        there = [part.path for part in self.parts if not isinstance(part.value(), UnsetType)]
        at = whole(number, len(there) - 1)
        return path if at is None else f"{there[at]}.{rest}".removesuffix(".")

    def _group(self) -> Any:
        if not self.required and self.is_empty():
            return UNSET
        return {part.label: value for part in self.parts if not isinstance(value := part.value(), UnsetType)}

    def _entries(self) -> Any:
        if not self.parts and not self.required and self.default in ("", "[]", "null"):
            return UNSET
        return [value for part in self.parts if not isinstance(value := part.value(), UnsetType)]


class Form:
    """The form of a command, as it is filled in."""

    def __init__(self, schema: JsonSchema, given: Mapping[str, str]) -> None:
        """Make it; `given` are the fields that were sent or stood in the address, by their names."""
        self._defs: dict[str, JsonSchema] = schema.get("$defs", {})
        self._given = given
        self._is_sent = "sent" in given
        self._made = 0
        self.errors: list[str] = []
        """What is wrong with it as a whole."""
        self.fields = self._fields(schema, "", 0, (f"{DEFS}{schema.get('title')}",))

    def json(self) -> bytes:
        """Return what is written, as the body of the command."""
        found = {each.label: value for each in self.fields if not isinstance(value := each.value(), UnsetType)}
        return msgspec.json.encode(found)

    def changed(self) -> dict[str, str]:
        """Return what is given, with an entry more or less, as a button asks for: `add=lines`, `cut=lines.1`."""
        given = dict(self._given)
        if path := given.pop("add", ""):
            given[f"n.{path}"] = str(min(self._count(path) + 1, MOST))
        elif cut := given.pop("cut", ""):
            path, _, place = cut.rpartition(".")
            at = whole(place)
            given = _without(given, path, -1 if at is None else at)
            given[f"n.{path}"] = str(max(self._count(path) - 1, 0))
        return given

    def tell(self, errors: Sequence[Mapping[str, str]]) -> None:
        """Put what does not fit at its fields: `path` as in `$.lines[0].sku`."""
        for error in errors:
            path, message = _path(error["path"]), error["message"]
            missing = re.fullmatch(r"Object missing required field `(.+)`", message)
            if missing:
                message = "This has to be filled in"
                if path.rpartition(".")[2] != missing[1]:
                    path = f"{path}.{missing[1]}" if path else missing[1]
            field = self._found(path)
            if field is None:
                self.errors.append(f"{message} at {error['path']}")
            else:
                field.error = message

    def _found(self, path: str) -> Field | None:
        """Return the field at a path, or the innermost that holds it."""
        fields, found = self.fields, None
        while inner := next((each for each in fields if path == each.path or path.startswith(f"{each.path}.")), None):
            if inner.kind == "list" and path != inner.path:
                path = inner.entry(path)
            found, fields = inner, inner.parts
        return found

    def _fields(self, schema: JsonSchema, path: str, depth: int, inside: tuple[str, ...]) -> list[Field]:
        required = set(schema.get("required", ()))
        return [
            self._field(each, f"{path}{name}", name, name in required, depth, inside)
            for name, each in schema.get("properties", {}).items()
            if "const" not in each
        ]

    def _field(
        self, schema: JsonSchema, path: str, label: str, required: bool, depth: int, inside: tuple[str, ...]
    ) -> Field:
        self._made += 1
        inner, nullable = _without_null(schema)
        ref = str(inner.get("$ref", ""))
        target = self._defs.get(ref.removeprefix(DEFS), {}) if ref else inner
        default = msgspec.json.encode(schema["default"]).decode() if "default" in schema else ""
        field = Field(
            path,
            label,
            _kind(target, again=ref in inside, depth=depth),
            type_text(inner),
            required,
            nullable,
            target.get(ZONE) is not False,
            said_of(schema) or said_of(inner),
            "" if default == "null" else default,
            [msgspec.json.encode(each).decode() for each in target.get("enum", ())],
        )
        if field.kind == "flag" and nullable:
            field.kind, field.options = "choice", ("true", "false")
        within = (*inside, ref) if ref else inside
        if field.kind == "group":
            field.parts = self._fields(target, f"{path}.", depth + 1, within)
        elif field.kind == "list":
            items = cast(JsonSchema, target["items"])
            field.parts = [
                self._field(items, f"{path}.{number}", str(number + 1), True, depth + 1, within)
                for number in range(self._count(path, 1 if required and not default else 0))
                if self._made < MOST_FIELDS
            ]
        else:
            field.raw = self._raw(field, schema.get("default"))
        return field

    def _raw(self, field: Field, default: Any) -> str:
        given = self._given.get(field.name)
        if given is not None:
            return given if field.kind == "text" else given.strip()
        if self._is_sent:  # a box that is not ticked is not sent
            return ""
        if field.kind == "flag":
            return "true" if default is True else ""
        return field.default if field.kind == "choice" else ""

    def _count(self, path: str, otherwise: int = 0) -> int:
        number = whole(self._given.get(f"n.{path}"))
        return otherwise if number is None else min(number, MOST)


def _kind(schema: JsonSchema, *, again: bool, depth: int) -> Kind:
    if "enum" in schema:
        return "choice"
    match schema.get("type"):
        case "object" if "properties" in schema and FIELDS not in schema and not again and depth < DEEPEST:
            return "group"
        case "array" if isinstance(schema.get("items"), dict) and "prefixItems" not in schema and depth < DEEPEST:
            return "list"
        case str(name):
            return FORMATS.get(str(schema.get("format")), PLAIN.get(name, "json"))
        case _:
            return "json"


def _without_null(schema: JsonSchema) -> tuple[JsonSchema, bool]:
    """Return a schema without what makes it optional, and whether that was there."""
    of = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return (of[0], True) if len(of) == 1 else (schema, False)


def _json(text: str) -> Any:
    """Return a text that is JSON as it is; any other as a text, so that the field says what it should have been."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text
    return msgspec.Raw(text.encode())


def _path(path: str) -> str:
    """Return a path as forms have it: `$.lines[0].sku` is `lines.0.sku`."""
    return ".".join(number or name for number, name in PART.findall(path.removeprefix("$")))


def _without(given: Mapping[str, str], path: str, cut: int) -> dict[str, str]:
    """Return what is given without an entry of a list; those behind it move up."""
    found: dict[str, str] = {}
    place = re.compile(rf"([fn])\.{re.escape(path)}\.([0-9]{{1,9}})((?:\..*)?)")
    for name, value in given.items():
        at = place.fullmatch(name)
        if at is None:
            found[name] = value
        elif (number := int(at[2])) != cut:
            found[f"{at[1]}.{path}.{number - (number > cut)}{at[3]}"] = value
    return found
