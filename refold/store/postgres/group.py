"""A group of appends on its way to the server: the arguments of `append_group`, and what its answer means to each."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct, field

from refold.errors import AppendIdReused, Conflict, PositionAhead
from refold.model.query import AppendCondition, QueryItem
from refold.model.record import NewEvent
from refold.store.api import Appended, bounded, digest
from refold.store.postgres.names import append_key, hexes, key, keys, literal, numbers

# Arrays go as text and data in one piece: the driver takes longer to send arrays than the server to read this.
APPEND_GROUP = """
SELECT head, array_to_json(outcomes)::text, array_to_json(firsts)::text, array_to_json(lasts)::text
FROM append_group(
    $1, $2, $3, $4, $5::text::integer [],
    $6::text::bytea [], $7::text::bytea [],
    $8::text::integer [], $9::text::bigint [], $10::text::bigint [],
    $11::text::text [], $12::text::text [], $13::text::text [], $14::text::text [],
    $15::text::integer [], $16::text::integer [], $17::text::integer [],
    $18::text::text [], $19::text::bigint [], $20::text::integer [], $21::text::text [],
    $22, $23::text::integer [], $24, $25::text::integer [],
    $26::text::integer [], $27::text::bigint [], $28::text::bigint []
)"""

ANYTHING = (None,)
_Item: TypeAlias = QueryItem | None
"""None: a query without items, which any event matches."""


class Append(Struct, eq=False):
    """A checked batch that waits for its turn."""

    events: list[NewEvent]
    conditions: Sequence[AppendCondition]
    append_id: str | None
    future: "asyncio.Future[Appended]"
    cost: int
    """Its work in rows."""
    written: "asyncio.Future[None] | None" = None
    """Done when its group is, once that is under way."""


class _Columns(Struct):
    """The arguments that grow with the group."""

    item_append: list[int] = field(default_factory=list[int])
    item_after: list[int] = field(default_factory=list[int])
    item_tag: list[int | None] = field(default_factory=list[int | None])
    item_tag_keys: list[str | None] = field(default_factory=list[str | None])
    item_tags: list[str | None] = field(default_factory=list[str | None])
    item_type_keys: list[str | None] = field(default_factory=list[str | None])
    item_types: list[str | None] = field(default_factory=list[str | None])

    def add_item(self, append_no: int, after: int, item: _Item) -> None:
        types, tags = (item.types, item.tags) if item else ((), ())
        tag_keys = keys(tags)
        self.item_append.append(append_no)
        self.item_after.append(after)
        self.item_tag.append(tag_keys[0] if tags else None)
        self.item_tag_keys.append(numbers(tag_keys) if tags else None)
        self.item_tags.append(literal(tags) if tags else None)
        self.item_type_keys.append(numbers(keys(types)) if types else None)
        self.item_types.append(literal(types) if types else None)

    def arguments(self) -> tuple[str | None, ...]:
        if not self.item_append:
            return (None,) * 7
        return (
            numbers(self.item_append),
            numbers(self.item_after),
            numbers(self.item_tag),
            literal(self.item_tag_keys),
            literal(self.item_tags),
            literal(self.item_type_keys),
            literal(self.item_types),
        )


def arguments(
    appends: Sequence[Append], *, lane: UUID, number: int, at: datetime | None, retention: timedelta
) -> tuple[Any, ...]:
    """Return the arguments of `append_group`."""
    items = _Columns()
    for append_no, append in enumerate(appends, 1):
        for condition in append.conditions:
            for item in condition.fail_if_match.items or ANYTHING:
                items.add_item(append_no, bounded(condition.after), item)
    rivals = list(_rivals(appends)) if items.item_append and len(appends) > 1 else []
    return (
        lane,
        number,
        at,
        retention,
        numbers([len(append.events) for append in appends]),
        *_ids(appends),
        *items.arguments(),
        *([numbers(column) for column in zip(*rivals, strict=True)] if rivals else (None, None, None)),
        *_rows(appends),
    )


def _ids(appends: Sequence[Append]) -> tuple[str | None, str | None]:
    """Return the hashes of append ids, and the digests of the batches that have one."""
    if all(append.append_id is None for append in appends):
        return None, None
    return (
        hexes(append_key(each.append_id) if each.append_id is not None else None for each in appends),
        hexes(digest(each.events) if each.append_id is not None else None for each in appends),
    )


def _rows(appends: Sequence[Append]) -> tuple[str | bytes, ...]:
    types: list[str] = []
    type_keys: list[int] = []
    versions: list[int] = []
    tags: list[str] = []
    data: list[bytes] = []
    metadata: list[bytes] = []
    tag_event: list[int] = []
    tag_keys: list[int] = []
    tag_type_keys: list[int] = []
    number = 0
    for append in appends:
        for event in append.events:
            number += 1
            type_key = key(event.type)
            types.append(event.type)
            type_keys.append(type_key)
            versions.append(event.version)
            tags.append(literal(event.tags))
            data.append(event.data)
            metadata.append(event.metadata)
            if event.tags:
                found = keys(event.tags)
                tag_keys += found
                tag_event += [number] * len(found)
                tag_type_keys += [type_key] * len(found)
    return (
        literal(types),
        numbers(type_keys),
        numbers(versions),
        literal(tags),
        b"".join(data),
        numbers(list(map(len, data))),
        b"".join(metadata),
        numbers(list(map(len, metadata))),
        numbers(tag_event),
        numbers(tag_keys),
        numbers(tag_type_keys),
    )


_Seen: TypeAlias = tuple[int, int, NewEvent]


def _rivals(appends: Sequence[Append]) -> Iterator[tuple[int, int, int]]:
    """Yield which append fails on which event of which earlier append, should that one be appended."""
    everything: list[_Seen] = []
    by_tag: dict[str, list[_Seen]] = {}
    by_type: dict[str, list[_Seen]] = {}
    for append_no, append in enumerate(appends, 1):
        rivals: dict[int, int] = {}
        for condition in append.conditions:
            for item in condition.fail_if_match.items or ANYTHING:
                seen: list[_Seen] = everything
                if item and item.tags:
                    seen = min((by_tag.get(tag, []) for tag in item.tags), key=len)
                elif item:
                    seen = [each for name in item.types for each in by_type.get(name, ())]
                for earlier, offset, event in seen:
                    if earlier not in rivals and (item is None or item.matches(event.type, event.tags)):
                        rivals[earlier] = offset
        for earlier in sorted(rivals):
            yield append_no, earlier, rivals[earlier]
        for offset, event in enumerate(append.events):
            one = (append_no, offset, event)
            everything.append(one)
            by_type.setdefault(event.type, []).append(one)
            for tag in event.tags:
                by_tag.setdefault(tag, []).append(one)


def results(appends: Sequence[Append], answer: asyncpg.Record) -> list[Appended | Exception]:
    """Return what each append comes to."""
    head: int = answer[0]
    if answer[1] is None:
        found: list[Appended | Exception] = []
        for append in appends:
            found.append(Appended(head + 1, head + len(append.events)))
            head += len(append.events)
        return found
    return [
        _result(append, outcome, first, last)
        for append, outcome, first, last in zip(appends, *map(msgspec.json.decode, answer[1:]), strict=True)
    ]


def _result(append: Append, outcome: str, first: int, last: int) -> Appended | Exception:
    if outcome in ("appended", "known"):
        return Appended(first, last)
    if outcome == "conflict":
        return Conflict(f"position {first} matches the condition", position=first)
    if outcome == "reused":
        return AppendIdReused(f"the append id {append.append_id!r} was used before, with other events")
    after = max(condition.after for condition in append.conditions)
    return PositionAhead(f"the condition is after {after}, but the head is {first}")
