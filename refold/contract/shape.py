"""The JSON Schema (2020-12) of a class, exact enough to tell whether one program can read what another wrote.

It says more than msgspec's own: every time has its format, and a struct that is written as an array names its fields.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect, structs

JsonSchema: TypeAlias = dict[str, Any]
DEFS = "#/$defs/"
FIELDS = "x-fields"
"""Where the schema of a struct that is written as an array names its fields, since their order is what is stored."""
MADE = "x-default"
"""Where the schema of a field tells that its default is made anew each time, and so is no value to be written down."""
ZONE = "x-zone"
"""Where the schema of a time says whether it must, or must not, have a zone."""
SCALARS: Mapping[type, JsonSchema] = {
    inspect.AnyType: {},
    inspect.RawType: {},
    inspect.CustomType: {},
    inspect.NoneType: {"type": "null"},
    inspect.BoolType: {"type": "boolean"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.StrType: {"type": "string"},
    inspect.BytesType: {"type": "string", "contentEncoding": "base64"},
    inspect.ByteArrayType: {"type": "string", "contentEncoding": "base64"},
    inspect.MemoryViewType: {"type": "string", "contentEncoding": "base64"},
    inspect.DateTimeType: {"type": "string", "format": "date-time"},
    inspect.DateType: {"type": "string", "format": "date"},
    inspect.TimeType: {"type": "string", "format": "time"},
    inspect.TimeDeltaType: {"type": "string", "format": "duration"},
    inspect.UUIDType: {"type": "string", "format": "uuid"},
    inspect.DecimalType: {"type": "string", "format": "decimal"},
}
BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
    "tz": ZONE,
}
COLLECTIONS = (list, dict, set, frozenset, tuple, bytearray)
LENGTHS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def json_schema(kind: Any) -> JsonSchema:
    """Return the schema of a class, whole: what it refers to is in its `$defs`."""
    shapes = _Shapes()
    found = shapes.of(inspect.type_info(kind))
    own = shapes.defs.pop(str(found["$ref"]).removeprefix(DEFS)) if "$ref" in found else found
    return {**own, **({"$defs": dict(sorted(shapes.defs.items()))} if shapes.defs else {})}


def json_schemas(kinds: Iterable[Any], at: str) -> tuple[list[JsonSchema], dict[str, JsonSchema]]:
    """Return the schemas of some classes, and by name what they refer to, which is to stand at a place."""
    shapes = _Shapes(at)
    return [shapes.of(inspect.type_info(kind)) for kind in kinds], shapes.defs


class _Shapes:
    """Goes through types, and collects the classes in them, each once."""

    def __init__(self, at: str = DEFS) -> None:
        self._at = at
        self.defs: dict[str, JsonSchema] = {}
        self._names: dict[type, str] = {}

    def of(self, info: inspect.Type) -> JsonSchema:
        """Return the schema of a type."""
        scalar = SCALARS.get(type(info))
        if scalar is not None:
            return {**scalar, **_bounds(info, str(scalar.get("type", "")))}
        match info:
            case inspect.Metadata():
                return {**self.of(info.type), **(info.extra_json_schema or {})}
            case inspect.LiteralType():
                return {"enum": list(info.values)}
            case inspect.EnumType():
                return self._defined(info.cls, lambda: {"enum": sorted((each.value for each in info.cls), key=repr)})
            case inspect.UnionType():
                return {"anyOf": sorted(map(self.of, info.types), key=repr)}
            case inspect.TupleType():
                return _tuple(map(self.of, info.item_types), len(info.item_types))
            case inspect.SetType() | inspect.FrozenSetType():
                unique = {"type": "array", "items": self.of(info.item_type), "uniqueItems": True}
                return {**unique, **_bounds(info, "array")}
            case inspect.ListType() | inspect.VarTupleType() | inspect.CollectionType():
                return {"type": "array", "items": self.of(info.item_type), **_bounds(info, "array")}
            case inspect.DictType():
                keys = self._key(info.key_type)
                names = {} if keys in ({}, {"type": "string"}) else {"propertyNames": keys}
                values = self.of(info.value_type)
                return {"type": "object", **names, "additionalProperties": values, **_bounds(info, "object")}
            case inspect.StructType():
                return self._defined(info.cls, lambda: self._struct(info))
            case inspect.TypedDictType() | inspect.DataclassType():
                return self._defined(info.cls, lambda: self._object(info.fields))
            case inspect.NamedTupleType():
                return self._defined(info.cls, lambda: self._array(info.fields, closed=True))
            case _:
                return {}

    def _key(self, info: inspect.Type) -> JsonSchema:
        """Return the schema of the keys of a dict, which are texts, whatever is made of them."""
        match info:
            case inspect.Metadata():
                return self._key(info.type)
            case inspect.IntType() | inspect.FloatType():
                found = self.of(info)
                return {**found, "type": "string", "format": found["type"]}
            case inspect.LiteralType():
                return {"enum": list(map(str, info.values))}
            case inspect.EnumType():
                return {"enum": sorted(str(each.value) for each in info.cls)}
            case inspect.UnionType():
                keys = sorted(map(self._key, info.types), key=repr)
                return {"type": "string"} if {"type": "string"} in keys else {"anyOf": keys}
            case _:
                return self.of(info)

    def _defined(self, cls: type, make: Any) -> JsonSchema:
        name = self._names.get(cls)
        if name is None:
            taken = cls.__name__ in self._names.values()
            self._names[cls] = name = f"{cls.__module__}.{cls.__qualname__}" if taken else cls.__name__
            self.defs[name] = {}
            made: JsonSchema = make()
            self.defs[name] = {"title": cls.__name__, **made}
        return {"$ref": f"{self._at}{name}"}

    def _struct(self, info: inspect.StructType) -> JsonSchema:
        if info.array_like:
            return self._array(info.fields, info.tag, closed=info.forbid_unknown_fields)
        found = self._object(info.fields)
        if info.tag_field is not None:
            found["properties"] = {info.tag_field: {"const": info.tag}, **found["properties"]}
            found["required"] = [info.tag_field, *found["required"]]
        if info.forbid_unknown_fields:
            found["additionalProperties"] = False
        return found

    def _object(self, fields: Iterable[inspect.Field]) -> JsonSchema:
        fields = tuple(fields)
        return {
            "type": "object",
            "properties": {each.encode_name: self._field(each) for each in fields},
            "required": [each.encode_name for each in fields if each.required],
        }

    def _array(self, fields: Iterable[inspect.Field], tag: Any = None, *, closed: bool = False) -> JsonSchema:
        fields = tuple(fields)
        items = [*([{"const": tag}] if tag is not None else ()), *map(self._field, fields)]
        least = len(items) - sum(not each.required for each in fields)
        rest = {"items": False} if closed else {}
        names = [each.name for each in fields]
        return {"type": "array", "prefixItems": items, **rest, "minItems": least, FIELDS: names}

    def _field(self, field: inspect.Field) -> JsonSchema:
        found = self.of(field.type)
        if field.default is not msgspec.NODEFAULT:
            found = {**found, "default": _plain(field.default)}
        elif field.default_factory is not msgspec.NODEFAULT:
            made = (
                {"default": _plain(field.default_factory())}
                if _constant(field.default_factory)
                else {MADE: "made anew"}
            )
            found = {**found, **made}
        return found


def _bounds(info: inspect.Type, kind: str) -> JsonSchema:
    found = {BOUNDS[name]: value for name, value in _said(info) if name in BOUNDS}
    lengths = dict(zip(("min_length", "max_length"), LENGTHS.get(kind, ()), strict=False))
    return found | {lengths[name]: value for name, value in _said(info) if name in lengths}


def _said(info: inspect.Type) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in structs.asdict(info).items() if value is not None]


def _tuple(items: Iterable[JsonSchema], count: int) -> JsonSchema:
    return {"type": "array", "prefixItems": list(items), "minItems": count, "maxItems": count}


def _constant(factory: Any) -> bool:
    """Tell whether a factory gives the same each time: an empty collection, or a struct of defaults that are so."""
    if factory in COLLECTIONS:
        return True
    if not isinstance(factory, type) or not issubclass(factory, msgspec.Struct) or hasattr(factory, "__post_init__"):
        return False
    return all(
        each.default is not msgspec.NODEFAULT or _constant(each.default_factory) for each in structs.fields(factory)
    )


def _plain(value: Any) -> Any:
    """Return a value as it is stored, with sets in order; of one that has none, the name of its type."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_unknown, order="deterministic"))
    except TypeError:
        return _unknown(value)


def _unknown(value: Any) -> str:
    return type(value).__qualname__  # and no address, which is another one in each process
