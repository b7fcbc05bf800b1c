"""From a query to SQL: each item becomes seeks in one index, and the items are merged in position order.

A page costs what it yields, not what the log holds. An item with several tags walks along the one that has the fewest
events in the range, and probes the index for the others. What is found through hashes of names is compared with the
names by the caller. Only placeholders are put together here; every value is bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from refold.model.query import Query, QueryItem
from refold.store.postgres.names import keys, literal, numbers

ANY_SIZE = 2**62
PROBE = 256
"""How far tags are counted to find the rarest."""
MAX_BRANCHES = 24
"""A query of more is written with one branch for all, which looks up to a page ahead in each."""

COLUMNS = "position, recorded_at, type, version, tags, data, metadata"
RANGE = "position > $1 AND position <= $2"

# $1 after, $2 upto, $3 how many, $4 how many bytes: a row is left out once those before it have more.
PAGE = """
SELECT {head}page.*
FROM {from_head}(
    SELECT {columns}
    FROM (
        SELECT hit.*, sum(octet_length(data) + octet_length(metadata)) OVER so_far
            - octet_length(data) - octet_length(metadata) AS bytes_before
        FROM ({hits}) AS hit
        WINDOW so_far AS (ORDER BY position {order} ROWS UNBOUNDED PRECEDING)
    ) AS weighed
    WHERE bytes_before < $4
    ORDER BY position {order}
) AS page{on_head}"""
# A first page of few rows is not weighed: that would take longer than to look them up.
FEW = "SELECT {head}page.* FROM {from_head}({hits}) AS page{on_head}"
HEAD = "SELECT coalesce(max(position), 0) AS head FROM event"

ALL = "SELECT {columns} FROM event WHERE {range} ORDER BY position {order} LIMIT $3"
# Each branch is ordered and limited for itself: else the planner appends them all, and sorts.
OF_TYPE = "(SELECT {columns} FROM event WHERE type_key = {type_key} AND {range} ORDER BY position {order} LIMIT $3)"
OF_TYPES = "SELECT * FROM ({branches}) AS of_types ORDER BY position {order} LIMIT $3"

WALK = "SELECT position FROM event_tag AS walked WHERE tag_key = {tag_key} AND {range}"
AND_TYPES = " AND type_key = ANY ({type_keys})"
AND_TAGS = """ AND NOT EXISTS (
    SELECT FROM unnest({tag_keys}) AS wanted (tag_key)
    WHERE NOT EXISTS (
        SELECT FROM event_tag AS probed WHERE probed.tag_key = wanted.tag_key AND probed.position = walked.position))"""
WALK_TYPE = "SELECT position FROM event WHERE type_key = {type_key} AND {range}"
BRANCH = "({walk} ORDER BY position {order} LIMIT $3)"
HITS = """
    SELECT {columns}
    FROM ({positions} ORDER BY position {order} LIMIT $3) AS found
    INNER JOIN event USING (position) ORDER BY position {order}"""
ONE = "SELECT position FROM ({branches}) AS walks"
DISTINCT = "SELECT DISTINCT position FROM ({branches}) AS walks"
# For queries of very many items, so that the statement is the same for any number.
MANY = """SELECT DISTINCT position FROM (
    SELECT walk.position
    FROM unnest($5::text::bigint [], $6::text::text [], $7::text::text []) AS item (tag_key, type_keys, tag_keys)
    CROSS JOIN LATERAL (
        SELECT walked.position FROM event_tag AS walked
        WHERE walked.tag_key = item.tag_key AND {range}
            AND (item.type_keys IS NULL OR walked.type_key = ANY (item.type_keys::bigint []))
            AND (item.tag_keys IS NULL OR NOT EXISTS (
                SELECT FROM unnest(item.tag_keys::bigint []) AS wanted (tag_key)
                WHERE NOT EXISTS (
                    SELECT FROM event_tag AS probed
                    WHERE probed.tag_key = wanted.tag_key AND probed.position = walked.position)))
        ORDER BY walked.position {order} LIMIT $3
    ) AS walk
    UNION ALL
    SELECT walk.position
    FROM unnest($8::text::bigint []) AS item (type_key)
    CROSS JOIN LATERAL (
        SELECT event.position FROM event WHERE event.type_key = item.type_key AND {range}
        ORDER BY event.position {order} LIMIT $3
    ) AS walk
) AS walks"""

COUNTS = """
SELECT tag_key, (
    SELECT count(*)
    FROM (SELECT 1 FROM event_tag AS t WHERE t.tag_key = asked.tag_key AND {range} LIMIT $3) AS counted
)
FROM unnest($4::text::bigint []) AS asked (tag_key)"""


class Range(Struct, frozen=True):
    """The part of the log that is asked about: above `after`, up to `upto`, in one direction."""

    after: int
    upto: int
    backwards: bool = False

    def rest(self, cut: int) -> "Range":
        """Return what is left of it behind a position, in its direction."""
        return Range(self.after, cut - 1, True) if self.backwards else Range(cut, self.upto)


class Select(Struct):
    """A statement and its arguments."""

    sql: str
    bound: list[Any]


class _Builder:
    """Puts a statement together."""

    def __init__(self, within: Range, limit: int, limit_bytes: int | None) -> None:
        self.bound: list[Any] = [within.after, within.upto, limit, *(() if limit_bytes is None else (limit_bytes,))]
        self._form = FEW if limit_bytes is None else PAGE
        self.order = "DESC" if within.backwards else "ASC"

    def bind(self, value: int) -> str:
        self.bound.append(value)
        return f"${len(self.bound)}::bigint"

    def bind_all(self, values: Sequence[int]) -> str:
        # As text: the driver asks the server about each type of array, on each new connection.
        self.bound.append(numbers(values))
        return f"${len(self.bound)}::text::bigint []"

    def branches(self, items: Sequence[QueryItem], rarest: Mapping[int, int]) -> list[str]:
        found: list[str] = []
        for item in items:
            if item.tags:
                walked, *probed = sorted(keys(item.tags), key=lambda tag: rarest.get(tag, 0))
                sql = WALK.format(tag_key=self.bind(walked), range=RANGE)
                if item.types:
                    sql += AND_TYPES.format(type_keys=self.bind_all(keys(item.types)))
                if probed:
                    sql += AND_TAGS.format(tag_keys=self.bind_all(probed))
                found.append(sql)
            else:
                found += [WALK_TYPE.format(type_key=self.bind(type_key), range=RANGE) for type_key in keys(item.types)]
        return [BRANCH.format(walk=walk, order=self.order) for walk in found]

    def many(self, items: Sequence[QueryItem], rarest: Mapping[int, int]) -> str:
        walked: list[int] = []
        type_keys: list[str | None] = []
        probed: list[str | None] = []
        types: dict[int, None] = {}
        for item in items:
            if item.tags:
                first, *others = sorted(keys(item.tags), key=lambda tag: rarest.get(tag, 0))
                walked.append(first)
                type_keys.append(numbers(keys(item.types)) if item.types else None)
                probed.append(numbers(others) if others else None)
            else:
                types.update(dict.fromkeys(keys(item.types)))
        self.bound += [numbers(walked), literal(type_keys), literal(probed), numbers(list(types))]
        return MANY.format(range=RANGE, order=self.order)

    def page(self, hits: str, *, with_head: bool) -> Select:
        sql = self._form.format(
            hits=hits,
            columns=COLUMNS,
            order=self.order,
            head="head.head, " if with_head else "",
            from_head=f"({HEAD}) AS head LEFT JOIN LATERAL " if with_head else "",
            on_head=" ON true" if with_head else "",
        )
        return Select(sql, self.bound)


def page(
    query: Query, within: Range, limit: int, limit_bytes: int | None, *, rarest: Mapping[int, int], with_head: bool
) -> Select:
    """Select the first events of a range that match, in its direction; with the head of the log in every row.

    With the head there is at least one row, empty but for the head if nothing matches. `rarest` says of tags how many
    events they have; see `counts`. Without `limit_bytes` the number of rows alone is limited.
    """
    many = _branch_count(query) > MAX_BRANCHES
    build = _Builder(within, limit, ANY_SIZE if many and limit_bytes is None else limit_bytes)
    order = build.order
    if not query.items:
        hits = ALL.format(columns=COLUMNS, range=RANGE, order=order)
    elif not many and all(not item.tags for item in query.items):
        types = dict.fromkeys(name for item in query.items for name in item.types)
        branches = " UNION ALL ".join(
            OF_TYPE.format(columns=COLUMNS, range=RANGE, order=order, type_key=build.bind(type_key))
            for type_key in keys(list(types))
        )
        hits = OF_TYPES.format(branches=branches, order=order)
    else:
        if many:
            positions = build.many(query.items, rarest)
        else:
            walks = build.branches(query.items, rarest)
            positions = (DISTINCT if len(walks) > 1 else ONE).format(branches=" UNION ALL ".join(walks))
        hits = HITS.format(columns=COLUMNS, positions=positions, order=order)
    return build.page(hits, with_head=with_head)


def counts(query: Query, within: Range) -> Select | None:
    """Select how many events each tag has that an item could walk along; None if no item has a choice."""
    tags = dict.fromkeys(tag for item in query.items if len(item.tags) > 1 for tag in item.tags)
    if not tags:
        return None
    return Select(COUNTS.format(range=RANGE), [within.after, within.upto, PROBE, numbers(keys(list(tags)))])


def _branch_count(query: Query) -> int:
    return sum(1 if item.tags else len(item.types) for item in query.items)
