"""What an event holds, as rows for people: nested fields by their paths, types in the words of Python."""

from collections.abc import Iterator
from typing import Any, cast

from msgspec import Struct

from refold.contract.shape import DEFS, FIELDS, MADE, JsonSchema

FORMATS = {
    "date-time": "datetime",
    "duration": "timedelta",
    "decimal": "Decimal",
    "uuid": "UUID",
    "integer": "int",
    "number": "float",
}
TYPES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "null": "None", "object": "object"}
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "pattern": "like {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


class Row(Struct, frozen=True):
    """One field."""

    path: str
    """`lines[].sku`."""
    type: str
    required: bool
    default: Any
    said: str
    """What its author says of it, and what bounds it."""


def rows_of(schema: JsonSchema) -> Iterator[Row]:
    """Return the fields of a schema, with those inside them after each."""
    yield from _rows(schema, schema.get("$defs", {}), "", (f"{DEFS}{schema.get('title')}",))


def type_text(schema: JsonSchema) -> str:
    """Return a type as Python would write it: `tuple[Line, ...]`."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(DEFS).rpartition(".")[2]
    if "anyOf" in schema:
        found = sorted((each for each in schema["anyOf"]), key=lambda each: bool(each.get("type") == "null"))
        return " | ".join(map(type_text, found))
    if "const" in schema or "enum" in schema:
        return " | ".join(map(repr, [schema["const"]] if "const" in schema else schema["enum"]))
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"tuple[{', '.join(map(type_text, schema['prefixItems']))}]"
        case "array":
            inner = type_text(schema.get("items", {}))
            return f"set[{inner}]" if schema.get("uniqueItems") else f"tuple[{inner}, ...]"
        case "object" if "additionalProperties" in schema and "properties" not in schema:
            keys = type_text(schema.get("propertyNames", {"type": "string"}))
            return f"dict[{keys}, {type_text(schema['additionalProperties'])}]"
        case "string" if "contentEncoding" in schema:
            return "bytes"
        case "string" if "format" in schema:
            return FORMATS.get(schema["format"], str(schema["format"]))
        case kind:
            return TYPES.get(str(kind), "Any")


def _rows(schema: JsonSchema, defs: dict[str, JsonSchema], path: str, inside: tuple[str, ...]) -> Iterator[Row]:
    required = set(schema.get("required", ()))
    for name, field in _fields(schema):
        here = f"{path}.{name}" if path else name
        is_required = name in required or (FIELDS in schema and "default" not in field and MADE not in field)
        yield Row(here, _named(field, defs), is_required, field.get("default"), said_of(field))
        for where, ref in _inner(field, here):
            if ref not in inside:
                yield from _rows(defs.get(ref.removeprefix(DEFS), {}), defs, where, (*inside, ref))


def _fields(schema: JsonSchema) -> list[tuple[str, JsonSchema]]:
    if FIELDS in schema:
        items = cast(list[JsonSchema], schema["prefixItems"])
        return list(zip(schema[FIELDS], items[len(items) - len(schema[FIELDS]) :], strict=True))
    return list(schema.get("properties", {}).items())


def _inner(schema: JsonSchema, path: str) -> Iterator[tuple[str, str]]:
    """Return where classes stand in a field, and which."""
    if "$ref" in schema:
        yield path, schema["$ref"]
    for each in schema.get("anyOf", ()):
        yield from _inner(each, path)
    for each in schema.get("prefixItems", ()):
        yield from _inner(each, f"{path}[]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _inner(schema[name], f"{path}[]")


def _named(schema: JsonSchema, defs: dict[str, JsonSchema]) -> str:
    """Return the type of a field, with the values of an enum."""
    inner = defs.get(str(schema.get("$ref", "")).removeprefix(DEFS), {})
    return f"{type_text(schema)}: {type_text(inner)}" if "enum" in inner else type_text(schema)


def said_of(schema: JsonSchema) -> str:
    """Return what its author says of a field, and what bounds it."""
    limits = [
        text.format(schema[name]) for name, text in LIMITS.items() if name in schema and "prefixItems" not in schema
    ]
    return ". ".join(part for part in (str(schema.get("description", "")).rstrip("."), ", ".join(limits)) if part)
