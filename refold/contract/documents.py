"""JSON Schemas as files: one for each name and version of an event, for tools that know nothing of us."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from refold.contract.describe import Contract, EventForm
from refold.contract.shape import DEFS, JsonSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_document(form: EventForm, base: str) -> JsonSchema:
    """Return the JSON Schema of what an event holds; its `$id` is `base` and the name of its file."""
    said = {"description": form.doc} if form.doc else {}
    found: JsonSchema = {"$schema": DIALECT, "$id": f"{base}{file_name(form)}", **form.schema, **said}
    if holds_itself(form.schema):
        found["$defs"] = {**form.schema.get("$defs", {}), form.schema["title"]: {"$ref": "#"}}
    return found


def holds_itself(schema: JsonSchema) -> bool:
    """Tell whether a schema refers to what it is the schema of, which is not among its `$defs`."""
    ref = msgspec.json.encode({"$ref": f"{DEFS}{schema.get('title')}"})
    return ref[1:-1] in msgspec.json.encode(schema)


def schema_documents(contract: Contract, base: str = "") -> Iterator[tuple[str, JsonSchema]]:
    """Return the schemas of a contract by the paths of their files: of what is stored, published and taken.

    `base` is where they are to be found, `https://example.com/shop/`; without it their ids are URNs.
    """
    base = base or f"urn:refold:{quote(contract.app, safe='')}:"
    groups = [("stored", contract.events), ("published", contract.published.events if contract.published else ())]
    groups += [(f"taken/{file_part(each.context)}", each.events) for each in contract.taken]
    for folder, forms in groups:
        inner = f"{base}{folder}/" if base.endswith("/") else f"{base}{folder.replace('/', ':')}:"
        yield from ((f"{folder}/{file_name(form)}", schema_document(form, inner)) for form in forms)


def file_name(form: EventForm) -> str:
    """Return the name of the file of an event's schema; no name of an event leads out of the folder."""
    return f"{file_part(form.id)}.schema.json"


def file_part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="").replace(".", "%2E") if set(name) == {"."} else quote(name, safe="")


def example(schema: JsonSchema) -> Any:
    """Return what an event might hold: its defaults where it has some, else something of the right form."""
    return _example(schema, schema.get("$defs", {}), "", (str(schema.get("title", "")),))


EXAMPLES = {
    "date-time": "2026-03-01T12:00:00Z",
    "date": "2026-03-01",
    "time": "12:00:00Z",
    "duration": "PT15M",
    "uuid": "0195a1c2-7b3e-7d44-9f10-2a6c5e8b9d01",
    "decimal": "9.90",
}


def _example(schema: JsonSchema, defs: dict[str, JsonSchema], name: str, inside: tuple[str, ...]) -> Any:
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        ref = str(schema["$ref"]).rpartition("/")[2]
        return None if ref in inside else _example(defs[ref], defs, name, (*inside, ref))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        found = [each for each in schema["anyOf"] if each.get("type") != "null"]
        usable = [each for each in found if str(each.get("$ref", "")).rpartition("/")[2] not in inside]
        return _example(usable[0], defs, name, inside) if usable else None
    match schema.get("type"):
        case "object":
            return _object(schema, defs, inside)
        case "array":
            items = [_example(each, defs, name, inside) for each in schema.get("prefixItems", ())]
            if not isinstance(schema.get("items"), dict) or _leads_back(schema["items"], inside):
                return items
            return [*items, *[_example(schema["items"], defs, name, inside)] * max(1, schema.get("minItems", 1))]
        case "string":
            return _text(schema, name)
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case _:
            return None


def _object(schema: JsonSchema, defs: dict[str, JsonSchema], inside: tuple[str, ...]) -> dict[str, Any]:
    if "properties" not in schema:
        inner = schema.get("additionalProperties", {})
        key = str(_example(schema.get("propertyNames", {"enum": ["key"]}), defs, "", inside))
        return {key: _example(inner, defs, "", inside)} if not _leads_back(inner, inside) else {}
    found: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        if not _leads_back(field, inside):
            found[name] = _example(field, defs, name, inside)
        elif "default" in field:
            found[name] = field["default"]
    return found


def _leads_back(schema: JsonSchema, inside: tuple[str, ...]) -> bool:
    return str(schema.get("$ref", "")).rpartition("/")[2] in inside


def _text(schema: JsonSchema, name: str) -> str:
    if "contentEncoding" in schema:
        return "cmVmb2xk"
    if schema.get("format") in ("integer", "number"):  # as the key of a dict
        return str(_example({**schema, "type": schema["format"]}, {}, name, ()))
    text = EXAMPLES.get(
        str(schema.get("format", "")), f"{name.removesuffix('_id')}-1" if name.endswith("_id") else "text"
    )
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: schema["maxLength"]] if "maxLength" in schema and "format" not in schema else text
