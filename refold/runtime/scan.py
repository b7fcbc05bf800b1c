"""Looking through the log itself for what is sought, for as long as that may take, and saying how far it came."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import InvalidQuery
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime.indexing import Id, Indexing, indexed, metadata_of
from refold.store.api import Store
from refold.view.search import terms_of, words_in

[TABLE] = Indexing().tables("")


class Stretch(Struct, frozen=True):
    """A part of the log: the positions above `after` and up to `upto`, and in which direction one goes along it."""

    after: int
    upto: int
    backwards: bool = True

    def __bool__(self) -> bool:
        """Tell whether there is anything in it."""
        return self.after < self.upto

    def behind(self, position: int) -> "Stretch":
        """Return what is left of it after a position, in its direction."""
        if self.backwards:
            return replace(self, upto=max(position - 1, self.after))
        return replace(self, after=min(position, self.upto))

    @property
    def done(self) -> "Stretch":
        """What is left of it when all was looked at: nothing."""
        return replace(self, upto=self.after) if self.backwards else replace(self, after=self.upto)


class Sought:
    """Words that an event must hold, or an id that it must have."""

    def __init__(self, text: str) -> None:
        self.terms = terms_of(TABLE, text)
        if not self.terms:
            raise InvalidQuery(f"{text!r} has no word to search for: no letter and no digit")
        self.id = "" if len(text.split()) > 1 or set(text) & set('"*') else text.strip()
        """What is sought, if it may be an id as a whole."""
        # In pure ASCII a word stands as it is, so that most events need not be read.
        self._parts = [word.encode() for term in self.terms for word in term.words if word.isascii()]

    @property
    def text(self) -> str:
        """The words as a search has them."""
        return " ".join(f'"{" ".join(term.words)}"{"*" * term.prefix}' for term in self.terms)

    def meets(self, stored: StoredEvent) -> bool:
        """Tell whether an event is sought."""
        names = " ".join((stored.type, *stored.tags))
        raw = b" ".join((names.encode(errors="replace"), stored.data, stored.metadata))
        if raw.isascii() and b"\\" not in raw and not all(part in raw.lower() for part in self._parts):
            return False
        row = indexed(stored)
        if self.id and self.id in (row.event_id, row.correlation_id, row.causation_id):
            return True
        [(_, words)] = words_in(TABLE, row)
        return all(term.within(words) for term in self.terms)


def with_id(name: Id, value: str) -> Callable[[StoredEvent], bool]:
    """Return what tells whether an event has an id in one of its places."""
    plain = value.isascii() and value.replace("-", "").isalnum()
    raw = value.encode(errors="replace")

    def meets(stored: StoredEvent) -> bool:
        return (not plain or raw in stored.metadata) and getattr(metadata_of(stored), name) == value

    return meets


async def scan(
    store: Store,
    query: Query,
    within: Stretch,
    meets: Callable[[StoredEvent], bool],
    limit: int,
    *,
    seconds: float,
    through: Stretch | None = None,
) -> tuple[Sequence[StoredEvent], Stretch]:
    """Return the events that are sought, up to so many, and what is left of the stretch.

    It stops after so many seconds; not before it has come `through` a part of it, if one is given, unless four times
    as much has gone by.
    """
    found: list[StoredEvent] = []
    start, left = time.monotonic(), within
    pages = store.read(query, after=within.after, upto=within.upto, backwards=within.backwards)
    try:
        async for page in pages:
            for stored in page:
                if meets(stored):
                    found.append(stored)
                    if len(found) >= limit:
                        return found, left.behind(stored.position)
            left = left.behind(page[-1].position) if page else left
            spent = time.monotonic() - start
            if spent > seconds and (through is None or _is_through(left, through) or spent > 4 * seconds):
                return found, left
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()
    return found, within.done


def _is_through(left: Stretch, part: Stretch) -> bool:
    return left.upto <= part.after if left.backwards else left.after >= part.upto
