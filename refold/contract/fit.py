"""Whether one program can read what another has written, told from the two schemas: what changed, and whom it breaks.

It knows JSON as it is decoded here: unknown fields are passed over, missing ones have their default, whole numbers are
numbers, and Decimals are read from numbers, too. Where it cannot be sure, it says that something breaks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeAlias, cast

from msgspec import Struct

from refold.contract.shape import DEFS, FIELDS, MADE, ZONE, JsonSchema

ALIKE = 0.5
"""How like two names must be, from 0 to 1, to be taken for a renamed field that has also moved."""
LOWER = ("minimum", "exclusiveMinimum")
UPPER = ("maximum", "exclusiveMaximum")
LENGTHS = ("minLength", "minItems", "minProperties"), ("maxLength", "maxItems", "maxProperties")
EXACT = ("pattern", "multipleOf", ZONE)
TEXT: JsonSchema = {"type": "string"}
Kinds: TypeAlias = dict[str, JsonSchema]


class Change(Struct, frozen=True):
    """A difference between an old and a new schema."""

    path: str
    rule: str
    said: str
    backward: bool = False
    """Whether new code cannot read what old code has written."""
    forward: bool = False
    """Whether old code cannot read what new code writes."""


def changes(old: JsonSchema, new: JsonSchema) -> list[Change]:
    """Return how two schemas differ, in the order of the fields."""
    return list(_Comparison(old, new).compare(old, new, "$"))


class _Comparison:
    """Goes through two schemas side by side."""

    def __init__(self, old: JsonSchema, new: JsonSchema) -> None:
        self._old: Mapping[str, JsonSchema] = old.get("$defs", {})
        self._new: Mapping[str, JsonSchema] = new.get("$defs", {})
        self._seen: set[tuple[str, str]] = set()

    def compare(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        """Compare what stands at a place."""
        pair = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        before, after = _kinds(old, self._old), _kinds(new, self._new)
        if "any" in before or "any" in after:
            yield from _any(before, after, path)
            return
        yield from _alternatives(before, after, path)
        for kind in before:
            if kind in after:
                yield from self._inside(kind.partition(":")[0], before[kind], after[kind], path)
        for one, other in (("integer", "number"), ("number", "integer")):
            if one in before and other in after and not (one in after and other in before):
                yield from _bounds(before[one], after[other], path)  # whole numbers are read as others, within these

    def _inside(self, family: str, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        match family:
            case "object":
                yield from self._objects(old, new, path)
            case "array":
                yield from self._arrays(old, new, path)
            case "string":
                yield from _texts(old, new, path)
            case _:
                yield from _values(old, new, path)
        yield from _bounds(old, new, path)

    def _objects(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        if ("properties" in old) != ("properties" in new):
            yield Change(path, "type-changed", "was fields of its own and is a dict, or the reverse", True, True)
            return
        if "properties" not in old:
            yield from self._keys(old.get("propertyNames", TEXT), new.get("propertyNames", TEXT), f"{path}{{key}}")
            yield from self.compare(old["additionalProperties"], new["additionalProperties"], f"{path}{{}}")
            return
        yield from self._fields(old, new, path)

    def _keys(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        """Compare what the keys of a dict are made of: all are texts, and the parts of a union are not told apart."""
        if old != new and ("anyOf" in old or "anyOf" in new):
            backward, forward = new != TEXT, old != TEXT
            yield Change(path, "type-changed", "are made of other types than before", backward, forward)
        elif old != new:
            yield from self.compare(old, new, path)

    def _fields(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        before, after = old["properties"], new["properties"]
        gone, come = [name for name in before if name not in after], [name for name in after if name not in before]
        for name, renamed in self._renames(before, after, gone, come):
            gone.remove(name)
            come.remove(renamed)
            yield Change(
                f"{path}.{name}",
                "field-renamed",
                f"is called {renamed!r} now; what stands under {name!r} is passed over",
                True,
                True,
            )
        for name in gone:
            closed = new.get("additionalProperties") is False
            yield Change(
                f"{path}.{name}",
                "field-removed",
                "is gone; what was recorded there is passed over" + (", or refused" if closed else ""),
                backward=closed,
                forward=name in old["required"],
            )
        for name in come:
            required = name in new["required"]
            yield Change(
                f"{path}.{name}",
                "field-required" if required else "field-added",
                f"is new{' and has no default' if required else ''}",
                backward=required,
                forward=old.get("additionalProperties") is False,
            )
        for name in before:
            if name in after:
                yield from self._field(old, new, name, f"{path}.{name}")

    def _field(self, old: JsonSchema, new: JsonSchema, name: str, path: str) -> Iterator[Change]:
        was, is_ = name in old["required"], name in new["required"]
        before, after = old["properties"][name], new["properties"][name]
        if was and not is_:
            yield Change(path, "default-added", "may be left out now", forward=True)
        elif is_ and not was:
            yield Change(path, "default-removed", "must be there now", backward=True)
        elif (one := _default(before)) != (other := _default(after)):
            yield Change(path, "default-changed", f"has the default {other} where it had {one}")
        yield from self.compare(before, after, path)

    def _renames(
        self,
        before: Mapping[str, JsonSchema],
        after: Mapping[str, JsonSchema],
        gone: Sequence[str],
        come: Sequence[str],
    ) -> list[tuple[str, str]]:
        """Return which fields that went are likely those that came: of one type, at one place or of like names."""
        found: list[tuple[str, str]] = []
        left = list(come)
        for name in gone:
            place = list(before).index(name)
            same = [each for each in left if self._same(before[name], after[each])]
            near = [each for each in same if list(after).index(each) == place or _likeness(name, each) > ALIKE]
            if near:
                best = max(near, key=lambda each: (_likeness(name, each), each))
                left.remove(best)
                found.append((name, best))
        return found

    def _same(self, old: JsonSchema, new: JsonSchema) -> bool:
        return not any(
            each.backward or each.forward
            for each in _Comparison({"$defs": self._old}, {"$defs": self._new}).compare(old, new, "")
        )

    def _arrays(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        before, after = old.get("prefixItems"), new.get("prefixItems")
        if before is None and after is None:
            yield from self.compare(old["items"], new["items"], f"{path}[]")
        elif before is None or after is None:
            yield Change(path, "type-changed", "had any number of parts and has places now, or the reverse", True, True)
        elif FIELDS in old and FIELDS in new:
            yield from self._positional(old, new, path)
        else:
            if len(before) != len(after):
                yield Change(path, "length-changed", f"has {len(after)} parts where it had {len(before)}", True, True)
            for place, (one, other) in enumerate(zip(before, after, strict=False)):
                yield from self.compare(one, other, f"{path}[{place}]")

    def _positional(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
        """Compare structs that are written as arrays: what counts is the place, and only the end can grow or shrink."""
        before, after = cast(list[str], old[FIELDS]), cast(list[str], new[FIELDS])
        shared = min(len(before), len(after))
        if before[:shared] != after[:shared]:
            said = f"has the fields {', '.join(after)} where it had {', '.join(before)}, and is stored by their order"
            yield Change(path, "fields-reordered", said, backward=True, forward=True)
            return
        extra = len(old["prefixItems"]) - len(before)  # a tag comes first, in both
        for name in before[shared:]:
            required = before.index(name) + extra < old["minItems"]
            closed = new.get("items") is False
            said = "is gone from the end" + ("; what was recorded there is refused" if closed else "")
            yield Change(f"{path}.{name}", "field-removed", said, backward=closed, forward=required)
        for name in after[shared:]:
            required = after.index(name) + extra < new["minItems"]
            rule = "field-required" if required else "field-added"
            closed = old.get("items") is False
            yield Change(f"{path}.{name}", rule, "is new at the end", backward=required, forward=closed)
        for place, name in enumerate(before[:shared]):
            was, is_ = place + extra < old["minItems"], place + extra < new["minItems"]
            if was != is_:
                rule, said = ("default-removed", "must be there") if is_ else ("default-added", "may be left out")
                yield Change(f"{path}.{name}", rule, f"{said} now", backward=is_, forward=was)
            one, other = old["prefixItems"][place + extra], new["prefixItems"][place + extra]
            yield from self.compare(one, other, f"{path}.{name}")


def _kinds(schema: JsonSchema, defs: Mapping[str, JsonSchema]) -> Kinds:
    """Return what a value may be, by kind: of a union each part, of objects with a tag each by its tag."""
    if "$ref" in schema:
        return _kinds(defs[str(schema["$ref"]).removeprefix(DEFS)], defs)
    if "anyOf" in schema:
        found: Kinds = {}
        for each in schema["anyOf"]:
            found |= _kinds(each, defs)
        return found
    if "const" in schema or "enum" in schema:
        return _of_values(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind is None:
        return {"any": schema}
    if kind == "object" and (tag := _tag(schema)):
        return {f"object:{tag}": schema}
    places = cast(Sequence[JsonSchema], schema.get("prefixItems", ()))
    if places and "const" in places[0]:
        return {f"array:{places[0]['const']}": schema}
    return {str(kind): schema}


def _of_values(values: Iterable[Any]) -> Kinds:
    found: dict[str, list[Any]] = {}
    for value in values:
        kind = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}[type(value)]
        found.setdefault(kind, []).append(value)
    return {kind: {"type": kind, "enum": each} for kind, each in found.items()}


def _tag(schema: JsonSchema) -> str:
    return next(
        (f"{name}={each['const']}" for name, each in schema.get("properties", {}).items() if "const" in each), ""
    )


def _any(before: Kinds, after: Kinds, path: str) -> Iterator[Change]:
    if "any" not in after:
        yield Change(path, "type-narrowed", f"could be anything and is {_said(after)} now", backward=True)
    elif "any" not in before:
        yield Change(path, "type-widened", f"was {_said(before)} and may be anything now", forward=True)


def _alternatives(before: Kinds, after: Kinds, path: str) -> Iterator[Change]:
    """Tell what cannot be any more, and what can be now."""
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    members = [kind for kind in gone | come if ":" in kind]
    if members and any(":" in kind for kind in before) and any(":" in kind for kind in after):
        for kind in sorted(gone & set(members)):
            yield Change(path, "member-removed", f"cannot be one of {kind.partition(':')[2]} any more", backward=True)
        for kind in sorted(come & set(members)):
            yield Change(path, "member-added", f"may be one of {kind.partition(':')[2]} now", forward=True)
        gone, come = gone - set(members), come - set(members)
    unread = sorted(kind for kind in gone if not _reads(after, kind))
    unknown = sorted(kind for kind in come if not _reads(before, kind))
    if gone and come:
        said = f"was {_said(before)} and is {_said(after)}"
        rule = "type-changed" if unread else "type-widened"
        yield Change(path, rule, said, backward=bool(unread), forward=bool(unknown))
    elif gone:
        yield Change(path, "type-narrowed", f"cannot be {' or '.join(sorted(gone))} any more", backward=bool(unread))
    elif come:
        yield Change(path, "type-widened", f"may be {' or '.join(sorted(come))} now", forward=bool(unknown))


def _reads(kinds: Kinds, kind: str) -> bool:
    """Tell whether code that knows some kinds can read another one."""
    if kind not in ("integer", "number"):
        return False
    number = kinds.get("number", {"enum": []})
    as_number = kind == "integer" and "enum" not in number
    return as_number or kinds.get("string", {}).get("format") == "decimal"


def _texts(old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
    before, after = _format(old), _format(new)
    if before == after:
        yield from _values(old, new, path)
        return
    if "enum" in old or "enum" in new:
        was, is_ = ("one of some values" if "enum" in each else f"a {_format(each)}" for each in (old, new))
        yield Change(path, "type-changed", f"was {was} and is {is_}", True, True)
        return
    said = f"was a {before} and is a {after}"
    rule = "type-widened" if after == "text" else "type-narrowed" if before == "text" else "type-changed"
    yield Change(path, rule, said, backward=after != "text", forward=before != "text")


def _default(schema: JsonSchema) -> str:
    return "one made anew" if MADE in schema else repr(schema.get("default"))


def _format(schema: JsonSchema) -> str:
    return str(schema.get("format") or schema.get("contentEncoding") or "text")


def _values(old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
    """Compare values that are listed."""
    if "enum" not in old and "enum" not in new:
        return
    if "enum" not in old:
        yield Change(path, "type-narrowed", f"must be one of {_listed(new['enum'])} now", backward=True)
        return
    if "enum" not in new:
        yield Change(path, "type-widened", f"was one of {_listed(old['enum'])} and may be any value now", forward=True)
        return
    gone = [value for value in old["enum"] if value not in new["enum"]]
    come = [value for value in new["enum"] if value not in old["enum"]]
    if len(gone) == len(come) == 1:
        yield Change(path, "value-renamed", f"has the value {come[0]!r} in place of {gone[0]!r}", True, True)
        return
    if gone:
        yield Change(path, "value-removed", f"cannot be {_listed(gone)} any more", backward=True)
    if come:
        yield Change(path, "value-added", f"may be {_listed(come)} now", forward=True)


def _bounds(old: JsonSchema, new: JsonSchema, path: str) -> Iterator[Change]:
    """Compare what values are bounded by."""
    if FIELDS in old or "prefixItems" in old:
        return
    tighter: list[str] = []
    looser: list[str] = []
    for names, sign in ((LOWER, 1), (UPPER, -1)):
        _sort(_bound(old, names, sign), _bound(new, names, sign), names[0], tighter, looser)
    for lengths, sign in zip(LENGTHS, (1, -1), strict=True):
        for name in lengths:
            _sort(_bound(old, (name,), sign), _bound(new, (name,), sign), name, tighter, looser)
    for name in EXACT:
        if old.get(name) != new.get(name):
            tighter += [name] if name in new else []
            looser += [name] if name in old else []
    if tighter:
        yield Change(path, "bounds-tightened", f"is bounded more tightly by {', '.join(tighter)}", backward=True)
    if looser:
        yield Change(path, "bounds-loosened", f"is bounded less by {', '.join(looser)}", forward=True)


def _sort(old: Any, new: Any, name: str, tighter: list[str], looser: list[str]) -> None:
    if old != new:
        (tighter if old is None or (new is not None and new > old) else looser).append(name)


def _bound(schema: JsonSchema, names: Sequence[str], sign: int) -> tuple[float, bool] | None:
    """Return the bound that counts, so that a larger one is tighter, and whether it is itself excluded."""
    found = [(sign * schema[name], name.startswith("exclusive")) for name in names if name in schema]
    return max(found, default=None)


def _said(kinds: Kinds) -> str:
    return " or ".join(sorted(kind.partition(":")[2] or _format_or(kind, kinds[kind]) for kind in kinds))


def _format_or(kind: str, schema: JsonSchema) -> str:
    return _format(schema) if kind == "string" and "enum" not in schema else kind


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(repr, values))


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
