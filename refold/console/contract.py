"""The contract: every event with its versions, who emits and who follows it, and when it was last seen."""

from datetime import datetime

from msgspec import Struct
from starlette.responses import Response

from refold.console.visit import Visit
from refold.contract.describe import Contract, EventForm
from refold.contract.diagram import diagram
from refold.contract.graph import graph_of
from refold.contract.markup import anchor
from refold.contract.page import HERE, sections_of
from refold.contract.site import files_of
from refold.http.problem import Refusal
from refold.model.query import Query, QueryItem
from refold.model.record import StoredEvent

SCRIPT = "diagram.js"
KINDS = {".json": "application/json", ".svg": "image/svg+xml", ".js": "text/javascript"}


class Line(Struct):
    """What the table says of an event."""

    form: EventForm
    anchor: str
    emitters: list[str]
    followers: list[str]
    published: bool
    position: int = 0
    """Where one was recorded last; 0 if none was."""
    at: datetime | None = None


async def show(visit: Visit) -> Response:
    """Show the whole contract: the events in a table, the diagram, and all that is written about each part."""
    contract = visit.desk.contract
    lines = [_line(contract, form) for form in contract.events if form.becomes is None]
    last = {line.form.name: await _last(visit, line.form.name) for line in lines}
    for line in lines:
        if (event := last[line.form.name]) is not None:
            line.position, line.at = event.position, event.recorded_at
    graph = graph_of(contract)
    drawn = diagram(graph, contract.app, alone=False) if graph.nodes else None
    return visit.page("contract.html", contract=contract, lines=lines, diagram=drawn, sections=sections_of(contract))


async def file(visit: Visit) -> Response:
    """Give a document of the contract: a JSON Schema, AsyncAPI, the diagram."""
    path = visit.path("path")
    kind = KINDS.get(path[path.rfind(".") :])
    content = (HERE / SCRIPT).read_bytes() if path == SCRIPT else files_of(visit.desk.contract).get(path)
    if kind is None or content is None:
        raise Refusal(404, "NOT_FOUND", "the contract has no such document")
    return Response(content, media_type=kind)


def _line(contract: Contract, form: EventForm) -> Line:
    published = contract.published.translations if contract.published else ()
    return Line(
        form,
        anchor("event", form.id),
        [
            *(each.name for each in contract.commands if form.id in each.emits),
            *(each.context for each in contract.taken if form.id in each.gives),
        ],
        [each.name for each in contract.followers if form.id in each.follows],
        any(form.id in each.follows for each in published),
    )


async def _last(visit: Visit, name: str) -> StoredEvent | None:
    """Return the last event of a type; one look at an index."""
    async for page in visit.app.log.read(Query((QueryItem((name,)),)), backwards=True, limit=1):
        for event in page:
            return event
    return None
