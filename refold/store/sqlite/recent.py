"""The newest events of the log, indexed in memory, so that most conditions are checked without asking the database.

A condition is nearly always `after` a position that was the head a moment ago. Everything above `floor` is here,
the events of the transaction under way included; for what lies below, the database has to be asked.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent

SIZE = 60_000
"""How many events and tags a generation holds; there are two. The transaction under way must fit into one."""

_Seen: TypeAlias = tuple[int, str, Collection[str]]


class _Generation:
    """Some consecutive events, by tag and by type."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.count = 0
        self.by_tag: defaultdict[str, list[_Seen]] = defaultdict(list)
        self.last_of_type: dict[str, int] = {}
        self.pending: list[tuple[int, list[tuple[str, tuple[str, ...]]]]] = []

    def index(self) -> None:
        """Index what has been added since the last question: an import that asks nothing does without."""
        by_tag, last_of_type = self.by_tag, self.last_of_type
        for first, events in self.pending:
            for position, (name, tags) in enumerate(events, first):
                last_of_type[name] = position
                seen = (position, name, tags)
                for tag in tags:
                    by_tag[tag].append(seen)
        self.pending.clear()

    def match(self, item: QueryItem, after: int) -> int | None:
        if item.tags:
            chosen = min((self.by_tag.get(tag, ()) for tag in item.tags), key=len)
            found: Iterable[_Seen] = reversed(chosen)
            for position, name, tags in found:
                if position <= after:
                    return None
                if item.matches(name, tags):
                    return position
            return None
        last = max((self.last_of_type.get(name, 0) for name in item.types), default=0)
        return last if last > after else None


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

    def add(self, events: Sequence[NewEvent], tags: int) -> None:
        """Add the events after the head, with how many tags they have together."""
        if self._newer.count >= SIZE:
            self._older, self._newer = self._newer, _Generation(self.head)
        newer = self._newer
        newer.count += len(events) + tags
        newer.pending.append((self.head + 1, [(event.type, event.tags) for event in events]))
        self.head += len(events)

    def match(self, query: Query, after: int) -> int | None:
        """Return the position of some known event above `after` that matches, if there is one."""
        if after >= self.head:
            return None
        if not query.items:
            return self.head
        for generation in (self._newer, self._older):
            if generation is not None:
                if generation.pending:
                    generation.index()
                for item in query.items:
                    found = generation.match(item, after)
                    if found is not None:
                        return found
        return None
