"""Course subscriptions: two limits, one on each side, in one decision."""

from collections.abc import Iterable
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Rejected, State, Tag

MOST_COURSES = 5

CourseId: TypeAlias = Annotated[str, Tag("course")]
StudentId: TypeAlias = Annotated[str, Tag("student")]


class CourseDefined(Event):
    course_id: CourseId
    capacity: int


class CourseCapacityChanged(Event):
    course_id: CourseId
    new_capacity: int


class StudentSubscribedToCourse(Event):
    student_id: StudentId
    course_id: CourseId


CourseEvent: TypeAlias = CourseDefined | CourseCapacityChanged | StudentSubscribedToCourse


class DefineCourse(Command):
    course_id: CourseId
    capacity: int = 10


class ChangeCourseCapacity(Command):
    course_id: CourseId
    new_capacity: int


class SubscribeStudent(Command):
    student_id: StudentId
    course_id: CourseId


class CourseExists(Rejected):
    def __init__(self, course_id: str) -> None:
        super().__init__(f'Course with id "{course_id}" already exists')


class NoSuchCourse(Rejected):
    def __init__(self, course_id: str) -> None:
        super().__init__(f'Course "{course_id}" does not exist')


class SameCapacity(Rejected):
    def __init__(self, capacity: int) -> None:
        super().__init__(f"New capacity {capacity} is the same as the current capacity")


class CourseFull(Rejected):
    def __init__(self, course_id: str) -> None:
        super().__init__(f'Course "{course_id}" is already fully booked')


class AlreadySubscribed(Rejected):
    """Student already subscribed to this course"""


class TooManyCourses(Rejected):
    def __init__(self) -> None:
        super().__init__(f"Student already subscribed to {MOST_COURSES} courses")


class Capacity(State):
    course_id: CourseId
    exists: bool = False
    capacity: int = 0

    def evolve(self, event: CourseDefined | CourseCapacityChanged) -> Self:
        match event:
            case CourseDefined(capacity=capacity):
                return self.replace(exists=True, capacity=capacity)
            case CourseCapacityChanged(new_capacity=capacity):
                return self.replace(capacity=capacity)


class CourseSubscriptions(State):
    course_id: CourseId
    number: int = 0

    def evolve(self, event: StudentSubscribedToCourse) -> Self:
        return self.replace(number=self.number + 1)


class StudentSubscriptions(State):
    student_id: StudentId
    number: int = 0

    def evolve(self, event: StudentSubscribedToCourse) -> Self:
        return self.replace(number=self.number + 1)


class Subscription(State):
    student_id: StudentId
    course_id: CourseId
    exists: bool = False

    def evolve(self, event: StudentSubscribedToCourse) -> Self:
        return self.replace(exists=True)


def define_course(cmd: DefineCourse, course: Capacity) -> CourseDefined:
    if course.exists:
        raise CourseExists(cmd.course_id)
    return CourseDefined(cmd.course_id, cmd.capacity)


def change_course_capacity(cmd: ChangeCourseCapacity, course: Capacity) -> CourseCapacityChanged:
    if not course.exists:
        raise NoSuchCourse(cmd.course_id)
    if course.capacity == cmd.new_capacity:
        raise SameCapacity(cmd.new_capacity)
    return CourseCapacityChanged(cmd.course_id, cmd.new_capacity)


def subscribe_student(
    cmd: SubscribeStudent,
    course: Capacity,
    of_course: CourseSubscriptions,
    subscription: Subscription,
    of_student: StudentSubscriptions,
) -> Iterable[StudentSubscribedToCourse]:
    if not course.exists:
        raise NoSuchCourse(cmd.course_id)
    if of_course.number >= course.capacity:
        raise CourseFull(cmd.course_id)
    if subscription.exists:
        raise AlreadySubscribed
    if of_student.number >= MOST_COURSES:
        raise TooManyCourses
    yield StudentSubscribedToCourse(cmd.student_id, cmd.course_id)
