"""Who asks is answered, by a process; how often is kept in rows. What the killed workers of `test_views` run."""

from collections.abc import Iterable
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Command, Event, Metadata, Projection, Row, Rows, Singleton, State, Tag, kept

Topic: TypeAlias = Annotated[str, Tag("topic")]
Voice: TypeAlias = Annotated[str, Tag("voice")]


class Asked(Event):
    topic: Topic
    voices: tuple[Voice, ...]
    number: int


class Answered(Event):
    topic: Topic
    number: int
    part: int
    seen: int


class Answer(Command):
    topic: Topic
    number: int
    part: int
    seen: int


class Asking(State):
    topic: Topic
    asked: int = 0

    def evolve(self, event: Asked) -> Self:
        return self.replace(asked=self.asked + 1)


class TopicSummary(State):
    topic: Topic
    asked: int = 0
    answered: int = 0
    numbers: tuple[int, ...] = ()

    def evolve(self, event: Asked | Answered) -> Self:
        match event:
            case Asked():
                return self.replace(asked=self.asked + 1, numbers=(*self.numbers, event.number)[-5:])
            case Answered():
                return self.replace(answered=self.answered + 1)


class VoiceSummary(State):
    """Several rows for one event."""

    voice: Voice
    asked: int = 0

    def evolve(self, event: Asked) -> Self:
        return self.replace(asked=self.asked + 1)


class Total(Singleton):
    events: int = 0
    sum: int = 0
    actors: tuple[str, ...] = ()

    def evolve(self, event: Asked | Answered, metadata: Metadata) -> Self:
        actors = tuple(sorted({*self.actors, metadata.actor}))
        return self.replace(events=self.events + 1, sum=(self.sum * 31 + event.number) % 1_000_003, actors=actors)


def answer(cmd: Answer) -> Answered:
    return Answered(cmd.topic, cmd.number, cmd.part, cmd.seen)


def answer_all(event: Asked, asking: Asking) -> Iterable[Answer]:
    for part in range(event.number % 3):
        yield Answer(event.topic, event.number, part, asking.asked)


class Waiting(Row):
    """A topic of which the last question was not answered in all its parts."""

    topic: Topic
    parts: int = 0


class WaitingTopics(Projection):
    rows = (Waiting,)

    async def apply(self, event: Asked | Answered, rows: Rows) -> None:
        waiting = await rows.get(Waiting, event.topic) or Waiting(event.topic)
        parts = waiting.parts + (event.number % 3 if isinstance(event, Asked) else -1)
        if parts:
            rows.put(Waiting(event.topic, parts))
        else:
            rows.delete(Waiting, event.topic)


PROJECTIONS: list[type[State]] = [TopicSummary, VoiceSummary, Total]


def asking_app(store: Any, generation: int = 1) -> App:
    """Return the app; a higher generation builds its views anew."""
    return App(
        store,
        events=Asked | Answered,
        decisions=[answer],
        processes=[answer_all],
        projections=[
            kept(TopicSummary, version=generation),
            kept(VoiceSummary, version=generation, history=True),
            kept(Total, version=generation),
            kept(WaitingTopics, version=generation),
        ],
        snapshot_every=7,
    )
