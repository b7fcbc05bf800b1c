"""`GET /stories/Order/o-1`: the events of a state in order, with what each has changed."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from refold.http import states
from refold.http.access import Principal
from refold.http.call import Call, answer
from refold.http.log import Wired, wired
from refold.http.operations import said_to
from refold.http.problem import Refusal
from refold.model.change import FieldChange
from refold.runtime.story import Story

STEPS = 100


class ToldStep(Struct, omit_defaults=True):
    """One event of a story, and what came of it."""

    event: Wired
    occurred_at: datetime
    changes: tuple[FieldChange, ...]
    state: Any = None
    """As it was after it, if that was asked for."""
    error: str = ""
    """Why it was passed over, if it was; operators see what the program says."""


class ToldStory(Struct):
    """A part of a story: its last steps, or those after a position."""

    start: Any
    """The state before the first of these steps."""
    steps: list[ToldStep]
    state: Any
    """The state after the last of them."""
    upto: int
    """The position up to which the log was asked."""
    has_earlier: bool
    next: int | None
    """The `after` of the steps that come next; null at the end."""


async def tell(call: Call) -> Response:
    """Tell the story of a state by its key."""
    initial = states.asked(call)
    limit = call.limit(STEPS)
    if limit == 0:
        raise Refusal(400, "INVALID_QUERY", "limit=0: a story is told in at least 1 step")
    story: Story[Any] = await call.app.story(
        initial,
        as_of=call.as_of(),
        effective=call.moment("effective"),
        upto=call.number("upto"),
        after=call.number("after"),
        limit=limit,
    )
    return answer(told(story, call.principal, each=call.flag("states")), position=story.upto)


def told(story: Story[Any], principal: Principal, *, each: bool) -> ToldStory:
    """Return a story as somebody is told it; with the state after each step if that is wanted."""
    steps = [
        ToldStep(
            wired(step.stored),
            step.occurred_at,
            step.changes,
            step.state if each else None,
            said_to(principal, step.error),
        )
        for step in story.steps
    ]
    more = story.steps[-1].position if story.has_later else None
    return ToldStory(story.start, steps, story.state, story.upto, story.has_earlier, more)
