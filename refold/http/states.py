"""`GET /states/Order/o-1`: what events add up to, now and at any time."""

from starlette.responses import Response

from refold.http.call import Call, answer, found
from refold.model.state import State, state_kind


async def load(call: Call) -> Response:
    """Load a state by its key, now or as it was."""
    initial = asked(call)
    head = await call.app.head()
    state = await call.app.load(initial, as_of=call.as_of(), effective=call.moment("effective"))
    return answer(state, position=head)


def asked(call: Call, parts: int = 2) -> State:
    """Return the state of a path before any event, its key behind so many parts; refuse what may not be seen."""
    cls = found(call.path("name"), {each.__name__: each for each in call.app.states}, "state")
    kind = state_kind(cls)
    initial = kind.parsed(call.keys(parts))
    call.principal.must_see(kind.tags(initial), f"this {cls.__name__}")
    return initial
