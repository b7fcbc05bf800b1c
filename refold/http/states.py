"""`GET /states/Order/o-1`: what events add up to, now and at any time."""

from starlette.responses import Response

from refold.http.call import Call, answer, found
from refold.model.state import state_kind


async def load(call: Call) -> Response:
    """Load a state by its key, now or as it was."""
    cls = found(call.path("name"), {each.__name__: each for each in call.app.states}, "state")
    kind = state_kind(cls)
    initial = kind.parsed(call.keys(2))
    call.principal.must_see(kind.tags(initial), f"this {cls.__name__}")
    head = await call.app.head()
    state = await call.app.load(initial, as_of=call.as_of(), effective=call.moment("effective"))
    return answer(state, position=head)
