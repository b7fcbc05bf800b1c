"""Which events, and what must still hold: the query and the append condition of the DCB specification."""

from collections.abc import Collection, Iterable
from typing import Self

from msgspec import Struct
from msgspec.structs import force_setattr

from refold.errors import InvalidQuery


class QueryItem(Struct, frozen=True):
    """Matches an event that has one of `types` and all of `tags`; an empty one of the two means any."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("types", "tags"):
            names: Collection[object] = getattr(self, field)
            if isinstance(names, str):
                raise InvalidQuery(f"{field} are a collection of strings: write {field}=({names!r},)")
            for name in names:
                if not isinstance(name, str):
                    raise InvalidQuery(f"{field} are strings, not {name!r}")
                if not name.isascii() or "\0" in name:
                    _check_text(name)
        force_setattr(self, "types", tuple(sorted(set(self.types))))
        force_setattr(self, "tags", tuple(sorted(set(self.tags))))
        if not self.types and not self.tags:
            raise InvalidQuery("a query item needs types or tags; a Query() without items means all events")

    def matches(self, type: str, tags: Collection[str]) -> bool:
        """Tell whether an event of this type, with these tags, is meant."""
        return (not self.types or type in self.types) and all(tag in tags for tag in self.tags)


class Query(Struct, frozen=True):
    """A set of items joined by OR. Without items it means all events."""

    items: tuple[QueryItem, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "items", tuple(dict.fromkeys(self.items)))

    @classmethod
    def of(cls, *, types: Iterable[str] = (), tags: Iterable[str] = ()) -> Self:
        """Make the query of one item: one of `types` and all of `tags`."""
        return cls((QueryItem(_collected(types), _collected(tags)),))

    def matches(self, type: str, tags: Collection[str]) -> bool:
        """Tell whether an event of this type, with these tags, is meant."""
        return not self.items or any(item.matches(type, tags) for item in self.items)

    def __or__(self, other: "Query") -> "Query":
        if not self.items or not other.items:
            return Query()
        return Query(self.items + other.items)


class AppendCondition(Struct, frozen=True):
    """Fails an append if a matching event has a position above `after` (exclusive; 0: if any matches at all)."""

    fail_if_match: Query
    after: int = 0

    def __post_init__(self) -> None:
        if self.after < 0:
            raise InvalidQuery(f"a condition after {self.after}: positions begin at 1, and 0 is before all")


def _check_text(name: str) -> None:
    """Refuse what no database can look for."""
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise InvalidQuery(f"no type or tag is {name!r}: it holds a NUL character, or half of a surrogate pair")


def _collected(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
