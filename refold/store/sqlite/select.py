"""From a query to SQL: each item becomes seeks in one index, and the items are merged in position order.

Every branch reads `(tag, position)` or `(type, position)` in order, so that a page costs what it yields, not what
the log holds. An item with several tags walks along the tag that has the fewest events in the range, and probes the
index for the others. Only placeholders are put together here; every value is bound.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import apsw
from msgspec import Struct

from refold.model.query import Query, QueryItem
from refold.store.api import MAX_TAGS

PROBE = 256
"""How far tags are counted to find the rarest."""
MAX_BRANCHES = 400
"""SQLite merges up to 500 selects; a query of more scans the range instead."""
MAX_BOUND = 30_000
"""SQLite binds up to 32,766 values."""

COLUMNS = "position, recorded_at, type_id, version, tags, data, metadata"

TAG_ID = "SELECT tag_id FROM tag WHERE name = ?"
COUNT_TAG = "SELECT count(*) FROM (SELECT 1 FROM event_tag WHERE tag_id = ? AND position > ? AND position <= ? LIMIT ?)"
BY_TAG = "SELECT position FROM event_tag AS walked WHERE tag_id = ? AND position > ? AND position <= ?"
AND_TAG = (
    " AND EXISTS (SELECT 1 FROM event_tag AS probed WHERE probed.tag_id = ? AND probed.position = walked.position)"
)
AND_TYPE = " AND type_id IN (%s)"
BY_TYPE = "SELECT position FROM event INDEXED BY event_by_type WHERE type_id = ? AND position > ? AND position <= ?"
ALL = f"SELECT {COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position"  # noqa: S608 - constants
HITS = f"SELECT {COLUMNS} FROM (%s ORDER BY position %s LIMIT ?) CROSS JOIN event USING (position)"  # noqa: S608


class Range(Struct, frozen=True):
    """The part of the log that is asked about: above `after`, up to `upto`, in one direction."""

    after: int
    upto: int
    backwards: bool = False

    def rest(self, cut: int) -> "Range":
        """Return what is left of it behind a position, in its direction."""
        return Range(self.after, cut - 1, True) if self.backwards else Range(cut, self.upto)


class _Branch(Struct):
    sql: str
    bound: list[Any]


def rows(
    connection: apsw.Connection, types: Mapping[str, int], query: Query, within: Range, limit: int
) -> apsw.Cursor | None:
    """Select the events of a query in position order; None if nothing can match."""
    order = "DESC" if within.backwards else "ASC"
    if len(query.items) == 1 and len(query.items[0].tags) == 1:
        item = query.items[0]
        type_ids = [types[name] for name in item.types if name in types]
        if item.types and not type_ids:
            return None
        bound = (item.tags[0], within.after, within.upto, *type_ids, limit)
        if len(bound) < MAX_BOUND:
            return connection.execute(_of_one_tag(len(type_ids), order), bound)
    if not query.items:
        return connection.execute(f"{ALL} {order} LIMIT ?", (within.after, within.upto, limit))
    if scans(query):
        return connection.execute(f"{ALL} {order}", (within.after, within.upto))
    branches = _branches(connection, types, query, within)
    if not branches:
        return None
    hits = " UNION ".join(branch.sql for branch in branches)
    return connection.execute(HITS % (hits, order), [*(each for branch in branches for each in branch.bound), limit])


@cache
def _of_one_tag(types: int, order: str) -> str:
    """Write what loads most states: the events of one tag, of some types."""
    walk = BY_TAG.replace("tag_id = ?", f"tag_id = ({TAG_ID})") + (AND_TYPE % ", ".join("?" * types) if types else "")
    return HITS % (walk, order)


def first_match(connection: apsw.Connection, types: Mapping[str, int], query: Query, within: Range) -> int | None:
    """Return the position of some event in the range that matches, if there is one."""
    if not query.items:
        found = connection.execute("SELECT max(position) FROM event WHERE position > ?", (within.after,)).get
        return int(found) if found is not None else None
    for branch in _branches(connection, types, query, within):
        found = connection.execute(f"{branch.sql} LIMIT 1", branch.bound).get
        if found is not None:
            return int(found)
    return None


def scans(query: Query) -> bool:
    """Tell whether `rows` gives the whole range, for the caller to filter."""
    branches = sum(1 if item.tags else len(item.types) for item in query.items)
    bound = sum(len(item.tags) + len(item.types) for item in query.items) + 2 * branches
    return branches > MAX_BRANCHES or bound > MAX_BOUND


def _branches(connection: apsw.Connection, types: Mapping[str, int], query: Query, within: Range) -> list[_Branch]:
    branches: list[_Branch] = []
    for item in query.items:
        type_ids = [types[name] for name in item.types if name in types]
        if item.types and not type_ids:
            continue
        if item.tags:
            branch = _by_tags(connection, type_ids, item, within)
            branches += [branch] if branch else []
        else:
            branches += [_Branch(BY_TYPE, [type_id, within.after, within.upto]) for type_id in type_ids]
    return branches


def _by_tags(connection: apsw.Connection, type_ids: Sequence[int], item: QueryItem, within: Range) -> _Branch | None:
    if len(item.tags) > MAX_TAGS:  # no event has them all, and SQLite could not nest them all
        return None
    tag_ids: list[int] = []
    for tag in item.tags:
        tag_id = connection.execute(TAG_ID, (tag,)).get
        if tag_id is None:
            return None
        tag_ids.append(int(tag_id))
    if len(tag_ids) > 1:
        counts = {
            tag_id: connection.execute(COUNT_TAG, (tag_id, within.after, within.upto, PROBE)).get for tag_id in tag_ids
        }
        tag_ids.sort(key=lambda tag_id: counts[tag_id])
    walked, *probed = tag_ids
    sql = BY_TAG + (AND_TYPE % ", ".join("?" * len(type_ids)) if type_ids else "") + AND_TAG * len(probed)
    return _Branch(sql, [walked, within.after, within.upto, *type_ids, *probed])
