"""The story of a thing: its events as a timeline, the state after each, and a slider through time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from starlette.responses import Response

from refold.console.visit import Visit
from refold.http import states
from refold.http.operations import said_to
from refold.model.state import State, state_kind
from refold.runtime.story import Step, Story

STEPS = 1_000
"""How many steps the slider reaches over."""
SHOWN = 25
"""How many steps before a place, and behind it, are listed."""
NAMED = 3
"""How many of the fields that a step has changed are named in the list."""
LONGEST = 2_000
"""Characters of a value in a table."""
TALLEST = 25
"""Lines of one; what has more of them stands in as few as can be."""
EVER = datetime.max.replace(tzinfo=UTC)


class Line(Struct):
    """A step in the timeline."""

    step: Step[Any]
    url: str
    changed: list[str]
    more: int
    """How many fields it has changed that are not named."""
    is_here: bool
    is_later: bool
    """Whether it comes after the place that is looked at."""


class Field(Struct):
    """A field of the state, or a place in it that a step has changed."""

    path: str
    value: str
    before: str | None = None
    is_changed: bool = False


async def begin(visit: Visit) -> Response:
    """Let somebody choose a state and type its key; go there if they have."""
    kinds = {each.__name__: [key.name for key in state_kind(each).keys] for each in visit.app.states}
    name, keys = visit.text("state"), [key.strip() for key in visit.texts("key")]
    if name in kinds and len(keys) == len(kinds[name]) and all(keys):
        return visit.go("stories", name, *keys)
    return visit.page("stories.html", kinds=kinds, asked=name or "")


async def show(visit: Visit) -> Response:
    """Show a story at a place: its end, or where `as_of` or `effective` point to."""
    initial = states.asked(visit)
    told = _Told(visit, initial, *await _around(visit, initial))
    return visit.page("story.html", told=told, shell=told.shell())


async def _around(visit: Visit, initial: State) -> tuple[Story[Any], int]:
    """Return the part of a story that is around the place that is asked for, and how many of its steps are before it.

    If it is longer than the slider, that is the part which ends there, or begins `after` a position.
    """
    as_of, effective, after = visit.as_of(), visit.moment("effective"), visit.number("after")
    tell = visit.app.story
    if effective is not None:
        story = await tell(initial, as_of=as_of, effective=EVER, after=after or 0, limit=STEPS)
        if story.has_later and after is None:
            story = await tell(initial, as_of=as_of, effective=effective, limit=STEPS)
        return story, sum(step.occurred_at <= effective for step in story.steps)
    story = await tell(initial, after=after or 0, limit=STEPS)
    if story.has_later and after is None:
        story = await tell(initial, as_of=as_of, limit=STEPS)
    if isinstance(as_of, datetime):
        return story, sum(step.recorded_at <= as_of for step in story.steps)
    return story, sum(as_of is None or step.position <= as_of for step in story.steps)


class _Told:
    """A story at a place, as the page has it."""

    def __init__(self, visit: Visit, initial: State, story: Story[Any], here: int) -> None:
        self._visit = visit
        self._story = story
        self.here = here
        """How many steps lead to the place."""
        self.name = type(initial).__name__
        self.keys = visit.keys(2)
        self.by_world = visit.moment("effective") is not None
        self.count = len(story.steps)
        self.step: Step[Any] | None = story.steps[here - 1] if here else None
        self.has_earlier = story.has_earlier
        self.upto = story.upto

    @property
    def stops(self) -> list[int]:
        """The places at which the slider stops: of what happened at one time only the last."""
        if not self.by_world:
            return list(range(self.count + 1))
        times = [step.occurred_at for step in self._story.steps]
        return [
            0,
            *(place for place in range(1, self.count + 1) if times[place - 1 : place] != times[place : place + 1]),
        ]

    @property
    def stop(self) -> int:
        """Which of the stops is the place."""
        return self.stops.index(self.here)

    @property
    def marks(self) -> str:
        """What stands in the address for each stop."""
        return " ".join(str(self.mark(place)) for place in self.stops)

    def mark(self, place: int) -> str:
        """Return what stands in the address for a place."""
        steps = self._story.steps
        if not self.by_world:
            return str(steps[place - 1].position if place else steps[0].position - 1 if steps else 0)
        first = _before(steps[0].occurred_at) if steps else EVER
        return (steps[place - 1].occurred_at if place else first).isoformat()

    def url(self, place: int) -> str:
        """Return the address of a place."""
        if self.by_world:
            return self._to(as_of=self._visit.text("as_of"), effective=self.mark(place))
        pinned = self._visit.number("after")
        if pinned is None and self.has_earlier:
            pinned = self._story.steps[0].position - 1
        return self._to(as_of=self.mark(place), after=pinned)

    def _to(self, **query: Any) -> str:
        return self._visit.url("stories", self.name, *self.keys, **query)

    @property
    def earlier(self) -> str | None:
        """The address of the part before this one."""
        if not self.has_earlier or not self.count:
            return None
        first = self._story.steps[0]
        if self.by_world:
            return self._to(as_of=self._visit.text("as_of"), effective=first.occurred_at.isoformat())
        return self._to(as_of=first.position - 1)

    @property
    def later(self) -> str | None:
        """The address of the part behind this one."""
        if not self._story.has_later:
            return None
        last = self._story.steps[-1]
        if self.by_world:
            known, when = self._visit.text("as_of"), last.occurred_at.isoformat()
            return self._to(as_of=known, effective=when, after=last.position)
        return self._to(as_of=last.position, after=last.position)

    @property
    def lines(self) -> Sequence[Line]:
        """The steps around the place."""
        first = max(self.here - SHOWN, 0)
        return [self._line(place) for place in range(first + 1, min(self.here + SHOWN, self.count) + 1)]

    @property
    def unlisted(self) -> tuple[int, int]:
        """How many steps are not listed before those that are, and behind them."""
        return max(self.here - SHOWN, 0), max(self.count - self.here - SHOWN, 0)

    def _line(self, place: int) -> Line:
        step = self._story.steps[place - 1]
        paths = [change.path for change in step.changes]
        named, more = paths[:NAMED], max(len(paths) - NAMED, 0)
        return Line(step, self.url(place), named, more, place == self.here, place > self.here)

    @property
    def fields(self) -> Sequence[Field]:
        """The fields of the state at the place."""
        state = self.step.state if self.step else self._story.start
        changed = {_top(change.path) for change in self.step.changes} if self.step else set[str]()
        return [
            Field(each, _shown(getattr(state, each)), is_changed=each in changed) for each in state.__struct_fields__
        ]

    @property
    def changes(self) -> Sequence[Field]:
        """What the step that leads to the place has changed."""
        found = self.step.changes if self.step else ()
        return [
            Field(
                each.path or "all of it",
                "" if each.after is UNSET else _shown(each.after),
                None if each.before is UNSET else _shown(each.before),
                is_changed=each.after is not UNSET,
            )
            for each in found
        ]

    @property
    def trouble(self) -> str:
        """Why the step that leads to the place was passed over, if it was."""
        return said_to(self._visit.principal, self.step.error) if self.step else ""

    def shell(self) -> str:
        """Return what tells it on the command line, up to the place."""
        when = {"as_of": self._visit.text("as_of"), "effective": self._visit.text("effective")}
        return self._visit.shell("story", "APP", self.name, *self.keys, **when)

    @property
    def asked(self) -> dict[str, str]:
        """What the form has to show."""
        effective = self._visit.moment("effective")
        return {
            "as_of": self._visit.text("as_of") or "",
            "effective": f"{effective:%Y-%m-%dT%H:%M:%S}" if effective else "",
        }


def _top(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else _laid_out(msgspec.json.encode(value))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


def _laid_out(encoded: bytes) -> str:
    text = msgspec.json.format(encoded, indent=2).decode()
    is_small = len(encoded) <= 60 or text.count("\n") > TALLEST
    return msgspec.json.format(encoded, indent=0).decode() if is_small else text


def _before(moment: datetime) -> datetime:
    """Return the moment before one; the first that there is, if it is that."""
    try:
        return moment - timedelta(microseconds=1)
    except OverflowError:
        return moment
