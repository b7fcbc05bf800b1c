"""Stubs for consumers in Python: frozen dataclasses and what reads them from CloudEvents, in one file without us."""

import json
from collections.abc import Iterator

from msgspec import UNSET

from refold.contract.describe import Published
from refold.contract.python_parts import FIXED, HELPERS, IMPORTS, RECEIVED, RESERVED
from refold.contract.shape import JsonSchema
from refold.contract.stubs import Enumeration, Names, Part, Record, in_order, stubs_of

TYPES = {
    "date-time": ("datetime", "_datetime", "from datetime import datetime"),
    "date": ("date", "_date", "from datetime import date"),
    "time": ("time", "_time", "from datetime import time"),
    "duration": ("timedelta", "_timedelta", "from datetime import timedelta"),
    "decimal": ("Decimal", "_decimal", "from decimal import Decimal, InvalidOperation"),
    "uuid": ("UUID", "_uuid", "from uuid import UUID"),
}
PLAIN = {
    "string": ("str", "_str"),
    "integer": ("int", "_int"),
    "number": ("float", "_float"),
    "boolean": ("bool", "_bool"),
    "null": ("None", "_none"),
}
ALWAYS = ("_wrong", "_fields", "_field", "_str", "_none", "_datetime", "_either")


def python_stubs(published: Published) -> str:
    """Return the text of a module."""
    return _Python(published).text()


class _Python:
    def __init__(self, published: Published) -> None:
        self._stubs = stubs_of(published, RESERVED)
        self._enums = {each.name for each in self._stubs.enums}
        self._needs: set[str] = set(ALWAYS)
        self._imports = {"from datetime import datetime"}
        self._special: dict[str, str] = {}
        """Readers of literals and tuples: what they do, and their names."""

    def text(self) -> str:
        enums = [self._enum(each) for each in self._stubs.enums]
        records = [self._record(each) for each in self._stubs.records]
        readers = [self._reader(each) for each in self._stubs.records]
        names = [name for _, name in self._stubs.events]
        union = f"\nPublishedEvent: TypeAlias = {' | '.join(names)}\n"
        table = "".join(f"    {_quoted(sent)}: _read_{name},\n" for sent, name in self._stubs.events)
        table = f"\n_READERS: Mapping[str, Callable[[object], PublishedEvent]] = {{\n{table}}}\n"
        special = [body.replace("def _(", f"def {name}(", 1) for body, name in self._special.items()]
        needs = self._closed()
        helpers = [HELPERS[name] for name in HELPERS if name in needs]
        parts = [FIXED, *enums, *records, union, RECEIVED, *readers, *special, table, *helpers]
        return self._head() + "\n".join(["", *parts]).replace("\n\n\n\n", "\n\n\n").rstrip() + "\n"

    def _head(self) -> str:
        needs = self._closed()
        imports = {IMPORTS[name] for name in needs if name in IMPORTS} | self._imports
        imports |= {"from enum import Enum" for _ in self._stubs.enums}
        typing = ["TypeAlias", "TypeVar", "cast"]
        if any("Literal[" in each for each in self._special):
            typing.insert(0, "Literal")
        imports |= {
            "import json",
            "from collections.abc import Callable, Mapping",
            "from dataclasses import dataclass",
        }
        merged = _merged(imports | {f"from typing import {', '.join(typing)}"})
        topic = " ".join(repr(self._stubs.topic)[1:-1].split())
        doc = f'"""{_in_doc(f"Events that are published on {topic}. Made by `refold contract stubs`: do not edit.")}"""'
        return f'{doc}\n\nfrom __future__ import annotations\n\n{merged}\n\n_T = TypeVar("_T")\n_U = TypeVar("_U")\n'

    def _closed(self) -> set[str]:
        """Return the helpers that are needed, with those that they need."""
        found = set(self._needs)
        waiting = list(found)
        while waiting:
            text = HELPERS[waiting.pop()]
            more = {name for name in HELPERS if name not in found and f"{name}(" in text}
            found |= more
            waiting += more
        return found

    def _enum(self, enum: Enumeration) -> str:
        names = Names()
        lines = [f"    {names.new(str(value).upper(), 'VALUE')} = {_quoted(value)}" for value in enum.values]
        return f"\nclass {enum.name}(Enum):\n" + "\n".join(lines) + "\n"

    def _record(self, record: Record) -> str:
        end = "\n    " if "\n" in record.doc else ""
        doc = f'    """{_in_doc(record.doc)}{end}"""\n\n' if record.doc else ""
        lines = [f"    {name}: {self._hint_of(part)}\n" for name, part in _named(record)]
        body = "".join(lines) or ("" if record.doc else "    pass\n")
        return f"\n@dataclass(frozen=True)\nclass {record.name}:\n{doc}{body}".rstrip() + "\n"

    def _reader(self, record: Record) -> str:
        keys = [part.key for part in record.parts]
        self._needs.add("_by_place" if record.positional else "_fields")
        given = f"_by_place(value, {_tuple(keys)})" if record.positional else "_fields(value)"
        lines = list(self._checks(record))
        lines += [f"        {name}={self._taken(part)},\n" for name, part in _named(record)]
        checks = "".join(line for line in lines if line.startswith("    _"))
        fields = "".join(line for line in lines if not line.startswith("    _"))
        built = f"{record.name}(\n{fields}    )" if fields else f"{record.name}()"
        used = "fields = " if lines else ""
        head = f"def _read_{record.name}(value: object) -> {record.name}:"
        return f"\n{head}\n    {used}{given}\n{checks}    return {built}\n"

    def _checks(self, record: Record) -> Iterator[str]:
        for part in record.parts:
            if part.const:
                self._needs |= {"_field", "_tag"}
                wanted = _quoted(part.schema["const"])
                yield f"    _field(fields, {_quoted(part.key)}, lambda value: _tag(value, {wanted}))\n"

    def _taken(self, part: Part) -> str:
        read = self._read(part.schema)
        if part.required:
            return f"_field(fields, {_quoted(part.key)}, {read})"
        if part.default is UNSET:
            return f"_field(fields, {_quoted(part.key)}, _either(_none, {read}), None)"
        return f"_field(fields, {_quoted(part.key)}, {read}, {_quoted(part.default)})"

    def _hint_of(self, part: Part) -> str:
        hint = self._hint(part.schema)
        return hint if part.required or part.default is not UNSET else f"{hint} | None"

    def _hint(self, schema: JsonSchema) -> str:
        """Return the annotation of a schema."""
        if "$ref" in schema:
            return str(schema["$ref"])
        if "anyOf" in schema:
            found = list(dict.fromkeys(map(self._hint, schema["anyOf"])))
            return " | ".join(sorted(found, key=lambda each: each == "None")) if "object" not in found else "object"
        if "enum" in schema or "const" in schema:
            return f"Literal[{', '.join(map(_quoted, _values(schema)))}]"
        match schema.get("type"):
            case "array" if "prefixItems" in schema:
                return f"tuple[{', '.join(map(self._hint, schema['prefixItems'])) or '()'}]"
            case "array":
                return f"tuple[{self._hint(schema.get('items', {}))}, ...]"
            case "object":
                return f"dict[str, {self._hint(schema.get('additionalProperties', {}))}]"
            case "string" if "contentEncoding" in schema:
                return "bytes"
            case "string" if schema.get("format") in TYPES:
                hint, _, line = TYPES[schema["format"]]
                self._imports.add(line)
                return hint
            case kind:
                return PLAIN[str(kind)][0] if kind in PLAIN else "object"

    def _read(self, schema: JsonSchema) -> str:
        """Return an expression that is what reads values of a schema."""
        if "$ref" in schema:
            name = str(schema["$ref"])
            return self._use("_one_of", name) if name in self._enums else f"_read_{name}"
        if "anyOf" in schema:
            *first, last = map(self._read, in_order(schema["anyOf"]))
            for each in reversed(first):
                last = self._use("_either", each, last)
            return last
        if "enum" in schema or "const" in schema:
            return self._literal(schema)
        match schema.get("type"):
            case "array" if "prefixItems" in schema:
                return self._places(schema)
            case "array":
                return self._use("_all_of", self._read(schema.get("items", {})))
            case "object":
                return self._use("_each_of", self._read(schema.get("additionalProperties", {})))
            case "string" if "contentEncoding" in schema:
                return self._use("_bytes")
            case "string" if schema.get("format") in TYPES:
                return self._use(TYPES[schema["format"]][1])
            case kind:
                return self._use(PLAIN[str(kind)][1] if kind in PLAIN else "_any")

    def _use(self, helper: str, *arguments: str) -> str:
        self._needs.add(helper)
        return f"{helper}({', '.join(arguments)})" if arguments else helper

    def _literal(self, schema: JsonSchema) -> str:
        self._needs.add("_wrong")
        lines = [f"\ndef _(value: object) -> {self._hint(schema)}:\n"]
        for value in _values(schema):
            same = f"type(value) is {type(value).__name__} and value == {_quoted(value)}"
            test = "value is None" if value is None else same
            lines.append(f"    if {test}:\n        return {_quoted(value)}\n")
        wanted = " or ".join(map(repr, _values(schema)))
        return self._given("".join([*lines, f"    raise _wrong(value, {_quoted(wanted)})\n"]), "_literal")

    def _places(self, schema: JsonSchema) -> str:
        self._needs |= {"_items", "_wrong"}
        reads = [f"{self._read(each)}(items[{at}])" for at, each in enumerate(schema["prefixItems"])]
        body = (
            f"\ndef _(value: object) -> {self._hint(schema)}:\n    items = _items(value)\n"
            f'    if len(items) != {len(reads)}:\n        raise _wrong(value, "an array of {len(reads)}")\n'
            f"    return ({', '.join(reads)}{',' if len(reads) == 1 else ''})\n"
        )
        return self._given(body, "_tuple")

    def _given(self, body: str, name: str) -> str:
        return self._special.setdefault(body, f"{name}_{len(self._special) + 1}")


def _named(record: Record) -> list[tuple[str, Part]]:
    """Name fields; none is called as a type is, which it would hide."""
    names = Names(RESERVED - {"parse", "receive", "json", "re"})
    return [(names.new(part.key, "field"), part) for part in record.parts if not part.const]


def _values(schema: JsonSchema) -> list[object]:
    return [schema["const"]] if "const" in schema else list(schema["enum"])


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _tuple(values: list[str]) -> str:
    return f"({', '.join(map(_quoted, values))}{',' if len(values) == 1 else ''})"


def _merged(lines: set[str]) -> str:
    """Sort imports as linters want them, one line for each module."""
    found: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, names = line.removeprefix("from ").partition(" import ")
            found.setdefault(module, set()).update(names.split(", "))
    plain = sorted(line for line in lines if line.startswith("import "))
    several = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(found.items())]
    return "\n".join([*plain, *several])


def _in_doc(text: str) -> str:
    plain = text.encode(errors="replace").decode().replace("\0", "")
    indented = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\n    ")
    return indented.replace("\n    \n", "\n\n")
