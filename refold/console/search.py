"""Finding things from any page: by a position, an id, a tag, a name, or by words."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from refold.console.log import lines
from refold.console.visit import Visit
from refold.errors import InvalidQuery
from refold.http.call import answer, whole
from refold.model.message import stored_name
from refold.model.query import Query
from refold.runtime.index import Findings

FOUND = 20


class Place(Struct, frozen=True):
    """Somewhere to go."""

    title: str
    kind: str
    url: str


async def show(visit: Visit) -> Response:
    """Show what there is by a name, a position, an id or words."""
    text = (visit.text("text") or "").strip()
    findings, trouble = await _found(visit, text) if text else (None, "")
    words = text.casefold().split()
    named = [each for each in places(visit) if words and all(word in each.title.casefold() for word in words)]
    return visit.page(
        "search.html",
        text=text,
        places=[*await _exact(visit, text), *named[:FOUND]],
        findings=findings,
        lines=lines(findings.events) if findings else [],
        trouble=trouble,
        more=visit.url("log", text=text) if findings and not findings.complete else "",
        is_indexed=visit.app.index.kept,
        shell=visit.shell("log", "search", "--", text) if text else "",
    )


async def palette(visit: Visit) -> Response:
    """Return all places by name, for the palette to choose from as one types."""
    return answer(places(visit))


def places(visit: Visit) -> list[Place]:
    """Return the pages that somebody may see, and what the app is made of where there is a page about it."""
    app, pages = visit.app, dict(visit.nav)
    found = [Place(title, "page", visit.url(path)) for path, title in visit.nav]
    if "projections" in pages:
        found += [Place(name, "projection", visit.url("projections", name)) for name in app.describe()["projections"]]
    if "stories" in pages:
        found += [Place(each.__name__, "state", visit.url("stories", each.__name__)) for each in app.states]
    if "commands" in pages:
        allowed = visit.principal.commands
        names = [each.__name__ for each in app.commands if allowed is None or each.__name__ in allowed]
        found += [Place(name, "command", visit.url("commands", name)) for name in names]
    types = dict.fromkeys(stored_name(each).name for each in app.schema.events)
    return [*found, *(Place(name, "event type", visit.url("log", types=name)) for name in types)]


async def _found(visit: Visit, text: str) -> tuple[Findings | None, str]:
    """Return the newest events with some words, or why they cannot be sought."""
    try:
        return await visit.app.index.search(text, query=visit.principal.seen(Query()), limit=FOUND), ""
    except InvalidQuery as error:
        return None, str(error)


async def _exact(visit: Visit, text: str) -> Sequence[Place]:
    """Return what a text names by itself: a position, or a tag."""
    found: list[Place] = []
    everything: Any = visit.principal.seen(Query())
    if (position := whole(text)) is not None:
        async for page in visit.app.log.read(everything, after=max(position - 1, 0), upto=position):
            found += [Place(f"Position {each.position}", each.type, visit.url("log", each.position)) for each in page]
    if ":" in text:
        async for page in visit.app.log.read(_tagged(visit, text), backwards=True, limit=1):
            found += [Place(text, "tag", visit.url("log", tags=text)) for _ in page]
    return found


def _tagged(visit: Visit, tag: str) -> Query:
    return visit.principal.seen(Query.of(tags=[tag]))
