"""What operators did, by which way ever, the newest first."""

from starlette.responses import Response

from refold.console.visit import Visit
from refold.runtime.audit import Act

PAGE = 100


async def show(visit: Visit) -> Response:
    """Show a page of what was done."""
    about, actor = visit.text("about") or "", visit.text("actor") or ""
    found: list[Act] = await visit.app.operations.audit(
        about=about, actor=actor, before=visit.number("before"), limit=PAGE + 1
    )
    acts = found[:PAGE]
    older = acts[-1].position if len(found) > PAGE else None
    return visit.page("audit.html", acts=acts, about=about, actor=actor, older=older, before=visit.number("before"))
