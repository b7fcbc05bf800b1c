"""The newest events of the log, indexed in memory, so that most conditions are checked without asking the database.

A condition is nearly always `after` a position that was the head a moment ago. Everything above `floor` is here,
the events of the transaction under way included; for what lies below, the database has to be asked.
"""

from collections.abc import Collection, Iterable
from typing import TypeAlias

from refold.model.query import Query, QueryItem

SIZE = 60_000
"""How many events and tags a generation holds; there are two. The transaction under way must fit into one."""

_Seen: TypeAlias = tuple[int, str, Collection[str]]


class _Generation:
    """Some consecutive events, by tag and by type."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.count = 0
        self.by_tag: dict[str, list[_Seen]] = {}
        self.by_type: dict[str, list[_Seen]] = {}

    def add(self, seen: _Seen) -> None:
        self.count += 1 + len(seen[2])
        self.by_type.setdefault(seen[1], []).append(seen)
        for tag in seen[2]:
            self.by_tag.setdefault(tag, []).append(seen)

    def match(self, item: QueryItem, after: int) -> int | None:
        if item.tags:
            chosen = min((self.by_tag.get(tag, ()) for tag in item.tags), key=len)
            found: Iterable[_Seen] = reversed(chosen)
        else:
            found = (self.by_type[name][-1] for name in item.types if name in self.by_type)
        for position, name, tags in found:
            if position <= after:
                if item.tags:
                    break
            elif item.matches(name, tags):
                return position
        return None


class Recent:
    """What is known of the end of the log without asking the database."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        self._older: _Generation | None = None
        self._newer = _Generation(head)

    @property
    def floor(self) -> int:
        """The position above which every event is known."""
        return self._older.floor if self._older else self._newer.floor

    def add(self, position: int, type: str, tags: Collection[str]) -> None:
        """Add the event after the head."""
        if self._newer.count >= SIZE:
            self._older, self._newer = self._newer, _Generation(self.head)
        self._newer.add((position, type, tags))
        self.head = position

    def match(self, query: Query, after: int) -> int | None:
        """Return the position of some known event above `after` that matches, if there is one."""
        if after >= self.head:
            return None
        if not query.items:
            return self.head
        for generation in (self._newer, self._older):
            if generation is not None:
                for item in query.items:
                    found = generation.match(item, after)
                    if found is not None:
                        return found
        return None
