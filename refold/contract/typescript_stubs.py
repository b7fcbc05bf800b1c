"""Stubs for consumers in TypeScript: interfaces, a union that `type` tells apart, and what reads and checks them."""

import json
import re
from collections.abc import Iterable

from msgspec import UNSET

from refold.contract.describe import Published
from refold.contract.shape import JsonSchema
from refold.contract.stubs import Enumeration, Part, Record, in_order, stubs_of
from refold.contract.typescript_parts import BRANDS, FIXED, HELPERS, PARSE, RESERVED

PLAIN = {
    "string": ("string", "text"),
    "integer": ("number", "whole"),
    "number": ("number", "real"),
    "boolean": ("boolean", "flag"),
    "null": ("null", "nothing"),
}


def typescript_stubs(published: Published) -> str:
    """Return the text of a module."""
    stubs = stubs_of(published, RESERVED)
    enums = {each.name for each in stubs.enums}
    members = "".join(f"\n  | CloudEvent<{_json(sent)}, {name}>" for sent, name in stubs.events)
    cases = "".join(
        f"    case {_json(sent)}:\n"
        f'      return {{ ...envelope, type, data: fieldOr(fields, "data", read{name}, at, {{}}) }};\n'
        for sent, name in stubs.events
    )
    title = f"Events that are published on {stubs.topic}. Made by `refold contract stubs`: do not edit."
    parts = [
        _doc(title),
        "",
        *_brands(),
        *(_enum(each) for each in stubs.enums),
        *(_interface(each) for each in stubs.records),
        f"\n/** Everything that is published; `type` tells which. */\nexport type PublishedEvent ={members};\n",
        FIXED,
        PARSE % cases,
        *(_reader(each, enums) for each in stubs.records),
    ]
    text = "\n".join(parts)
    return re.sub(r"\n{3,}", "\n\n", f"{text}\n\n{_used(text)}").strip() + "\n"


def _brands() -> Iterable[str]:
    yield "declare const brand: unique symbol;"
    for name, _, _, said in BRANDS.values():
        yield f'/** Text that is {said}. */\nexport type {name} = string & {{ readonly [brand]: "{name}" }};'


def _used(text: str) -> str:
    """Return the helpers that a text needs, and those that they need."""
    blocks = {re.findall(r"(?:function|const|type) (\w+)", block)[0]: block for block in _blocks()}
    found: list[str] = []
    while True:
        text = re.sub(r'/\*.*?\*/|"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)
        more = [name for name in blocks if name not in found and re.search(rf"\b{name}\b", text)]
        if not more:
            return "\n\n".join(block for name, block in blocks.items() if name in found)
        found += more
        text = "\n".join(blocks[name] for name in more)


def _blocks() -> Iterable[str]:
    for name, read, form, said in BRANDS.values():
        yield f'const {read}: Read<{name}> = branded<{name}>("{said}", {form});'
    yield from HELPERS.strip().split("\n\n")


def _doc(text: str) -> str:
    lines = text.encode(errors="replace").decode().replace("*/", "*\\/").split("\n")
    if len(lines) == 1:
        return f"/** {lines[0]} */"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */"])


def _enum(enum: Enumeration) -> str:
    return f"\nexport type {enum.name} = {' | '.join(map(_json, enum.values))};\n" + (
        f"const read{enum.name}: Read<{enum.name}> = oneOf<{enum.name}>({', '.join(map(_json, enum.values))});"
    )


def _interface(record: Record) -> str:
    doc = f"{_doc(record.doc)}\n" if record.doc else ""
    lines = "".join(f"  readonly {_key(part.key)}: {_type_of(part)};\n" for part in record.parts)
    return f"\n{doc}export interface {record.name} {{\n{lines}}}\n"


def _reader(record: Record, enums: set[str]) -> str:
    keys = ", ".join(_json(part.key) for part in record.parts)
    given = f"byPlace(value, at, {keys})" if record.positional else "fieldsOf(value, at)"
    lines = "".join(f"    {_key(part.key)}: {_taken(part, enums)},\n" for part in record.parts)
    used = "const fields = " if record.parts else ""
    return (
        f"\nfunction read{record.name}(value: unknown, at: string): {record.name} {{\n  {used}{given};\n"
        f"  return {{\n{lines}  }};\n}}\n"
    )


def _taken(part: Part, enums: set[str]) -> str:
    read = _read(part.schema, enums)
    if part.required:
        return f"field(fields, {_json(part.key)}, {read}, at)"
    if part.default is UNSET:
        return f"fieldOr(fields, {_json(part.key)}, either(nothing, {read}), at, null)"
    return f"fieldOr(fields, {_json(part.key)}, {read}, at, {_json(part.default)})"


def _type_of(part: Part) -> str:
    return _type(part.schema) if part.required or part.default is not UNSET else f"{_type(part.schema)} | null"


def _type(schema: JsonSchema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"])
    if "anyOf" in schema:
        return " | ".join(sorted(dict.fromkeys(map(_type, schema["anyOf"])), key=lambda each: each == "null"))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(_json, _values(schema)))
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"readonly [{', '.join(map(_type, schema['prefixItems']))}]"
        case "array":
            return f"ReadonlyArray<{_type(schema.get('items', {}))}>"
        case "object":
            return f"{{ readonly [key: string]: {_type(schema.get('additionalProperties', {}))} }}"
        case "string" if _brand(schema) in BRANDS:
            return BRANDS[_brand(schema)][0]
        case kind:
            return PLAIN[str(kind)][0] if kind in PLAIN else "unknown"


def _read(schema: JsonSchema, enums: set[str]) -> str:
    if "$ref" in schema:
        return f"read{schema['$ref']}"
    if "anyOf" in schema:
        *first, last = (_read(each, enums) for each in in_order(schema["anyOf"]))
        for each in reversed(first):
            last = f"either({each}, {last})"
        return last
    if "enum" in schema or "const" in schema:
        return f"oneOf<{_type(schema)}>({', '.join(map(_json, _values(schema)))})"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            reads = ", ".join(_read(each, enums) for each in schema["prefixItems"])
            return f"tupleOf<{_type(schema)}>({reads})"
        case "array":
            return f"arrayOf({_read(schema.get('items', {}), enums)})"
        case "object":
            return f"recordOf({_read(schema.get('additionalProperties', {}), enums)})"
        case "string" if _brand(schema) in BRANDS:
            return BRANDS[_brand(schema)][1]
        case kind:
            return PLAIN[str(kind)][1] if kind in PLAIN else "anything"


def _brand(schema: JsonSchema) -> str:
    return "base64" if "contentEncoding" in schema else str(schema.get("format", ""))


def _values(schema: JsonSchema) -> list[object]:
    return [schema["const"]] if "const" in schema else list(schema["enum"])


def _key(key: str) -> str:
    if re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", key) and key != "__proto__":
        return key
    return f"[{_json(key)}]" if key == "__proto__" else _json(key)


def _json(value: object) -> str:
    return json.dumps(value)
