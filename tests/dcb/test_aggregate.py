import pytest

from refold import Conflict, Query
from refold.store.memory import MemoryStore
from tests.dcb.aggregate import SCHEMA, CourseAggregate, CourseRepository
from tests.dcb.courses import CourseCapacityChanged, CourseDefined


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def courses(store: MemoryStore) -> CourseRepository:
    return CourseRepository(store)


async def test_an_aggregate_is_saved_and_loaded(store: MemoryStore, courses: CourseRepository) -> None:
    await courses.save(CourseAggregate.create("c1", 10))
    course = await courses.load("c1")
    assert course.capacity == 10
    course.change_capacity(15)
    await courses.save(course)
    assert (await courses.load("c1")).capacity == 15
    stored = [each async for page in store.read(Query.of(tags=["course:c1"])) for each in page]
    assert [event for each in stored for event in SCHEMA.decode(each)] == [
        CourseDefined("c1", 10),
        CourseCapacityChanged("c1", 15),
    ]
    assert stored[0].position == 1


async def test_of_two_loads_and_two_saves_the_second_fails(courses: CourseRepository) -> None:
    await courses.save(CourseAggregate.create("c1", 10))
    one, other = await courses.load("c1"), await courses.load("c1")
    one.change_capacity(11)
    other.change_capacity(12)
    await courses.save(one)
    with pytest.raises(Conflict):
        await courses.save(other)
    assert (await courses.load("c1")).capacity == 11


async def test_a_course_is_created_once(courses: CourseRepository) -> None:
    await courses.save(CourseAggregate.create("c1", 10))
    with pytest.raises(Conflict):
        await courses.save(CourseAggregate.create("c1", 20))


async def test_other_aggregates_do_not_disturb(courses: CourseRepository) -> None:
    await courses.save(CourseAggregate.create("c1", 10))
    course = await courses.load("c1")
    await courses.save(CourseAggregate.create("c2", 10))
    course.change_capacity(11)
    await courses.save(course)
