"""`GET /causes/42`: what led to an event, and all that came of it."""

from msgspec.structs import replace
from starlette.responses import Response

from refold.http.call import Call, answer, whole
from refold.http.problem import Refusal
from refold.model.query import Query
from refold.runtime.causes import Causes


async def tell(call: Call) -> Response:
    """Tell what caused what around an event."""
    return answer(await asked(call))


async def asked(call: Call) -> Causes:
    """Return the tree that the event of a path is in, as far as it may be seen; refuse if there is none."""
    text = call.path("position")
    found = await call.app.causes(whole(text) or 0, query=call.principal.seen(Query()))
    if found is None:
        raise Refusal(404, "NOT_FOUND", f"there is no event at position {text[:40]}, or not for {call.principal.name}")
    if not call.principal.can_be("operator"):  # what programs say of their failures may tell of anything
        found = replace(found, nodes=tuple(replace(node, trouble="") for node in found.nodes))
    return found
