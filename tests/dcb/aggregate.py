"""An event-sourced aggregate with a repository, built on the store's port alone: the classic is a special case."""

from refold import AppendCondition, Event, Query, Rejected
from refold.model.schema import Schema
from refold.store.api import Store
from tests.dcb.courses import CourseCapacityChanged, CourseDefined, CourseEvent, CourseId

SCHEMA = Schema(CourseEvent)


class CourseAggregate:
    def __init__(self, course_id: CourseId) -> None:
        self.course_id = course_id
        self.capacity = 0
        self.position = 0
        self.recorded: list[Event] = []

    @classmethod
    def create(cls, course_id: CourseId, capacity: int) -> "CourseAggregate":
        course = cls(course_id)
        course._record(CourseDefined(course_id, capacity))
        return course

    def change_capacity(self, capacity: int) -> None:
        if capacity == self.capacity:
            raise Rejected(f"New capacity {capacity} is the same as the current capacity")
        self._record(CourseCapacityChanged(self.course_id, capacity))

    def apply(self, event: Event) -> None:
        match event:
            case CourseDefined(capacity=capacity) | CourseCapacityChanged(new_capacity=capacity):
                self.capacity = capacity
            case _:
                pass

    def _record(self, event: Event) -> None:
        self.recorded.append(event)
        self.apply(event)


class CourseRepository:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, course_id: CourseId) -> CourseAggregate:
        course = CourseAggregate(course_id)
        async for page in self._store.read(self._stream(course_id)):
            for stored in page:
                for event in SCHEMA.decode(stored):
                    course.apply(event)
                course.position = stored.position
        return course

    async def save(self, course: CourseAggregate) -> None:
        condition = AppendCondition(self._stream(course.course_id), course.position)
        done = await self._store.append([SCHEMA.encode(event) for event in course.recorded], condition)
        course.position = done.last
        course.recorded.clear()

    def _stream(self, course_id: CourseId) -> Query:
        return Query.of(tags=[f"course:{course_id}"])
