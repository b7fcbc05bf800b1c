import pytest

from refold.testing.given import given
from tests.dcb.courses import (
    AlreadySubscribed,
    ChangeCourseCapacity,
    CourseCapacityChanged,
    CourseDefined,
    CourseEvent,
    CourseExists,
    CourseFull,
    DefineCourse,
    NoSuchCourse,
    SameCapacity,
    StudentSubscribedToCourse,
    SubscribeStudent,
    TooManyCourses,
    change_course_capacity,
    define_course,
    subscribe_student,
)

FULL = (CourseDefined("c1", 3), *(StudentSubscribedToCourse(f"s{n}", "c1") for n in (1, 2, 3)))
BUSY = (CourseDefined("c6", 10), *(StudentSubscribedToCourse("s1", f"c{n}") for n in (1, 2, 3, 4, 5)))


def test_a_course_is_defined() -> None:
    given().when(define_course, DefineCourse("c1", 15)).then(CourseDefined("c1", 15))


def test_a_course_is_defined_once() -> None:
    outcome = given(CourseDefined("c1", 10)).when(define_course, DefineCourse("c1"))
    outcome.rejected('Course with id "c1" already exists')
    outcome.rejected(CourseExists)


def test_a_capacity_is_changed() -> None:
    given(CourseDefined("c1", 12)).when(change_course_capacity, ChangeCourseCapacity("c1", 15)).then(
        CourseCapacityChanged("c1", 15)
    )


@pytest.mark.parametrize(
    ("events", "command", "reason", "message"),
    [
        ((), ChangeCourseCapacity("c0", 15), NoSuchCourse, 'Course "c0" does not exist'),
        (
            (CourseDefined("c1", 12),),
            ChangeCourseCapacity("c1", 12),
            SameCapacity,
            "New capacity 12 is the same as the current capacity",
        ),
        (
            (CourseDefined("c1", 10), CourseCapacityChanged("c1", 12)),
            ChangeCourseCapacity("c1", 12),
            SameCapacity,
            "New capacity 12 is the same as the current capacity",
        ),
    ],
)
def test_a_capacity_is_not_changed(
    events: tuple[CourseEvent, ...], command: ChangeCourseCapacity, reason: type[Exception], message: str
) -> None:
    given(*events).when(change_course_capacity, command).rejected(message)
    assert isinstance(given(*events).when(change_course_capacity, command).refusal, reason)


def test_a_student_subscribes() -> None:
    given(CourseDefined("c1", 10)).when(subscribe_student, SubscribeStudent("s1", "c1")).then(
        StudentSubscribedToCourse("s1", "c1")
    )


@pytest.mark.parametrize(
    ("events", "command", "reason", "message"),
    [
        ((), SubscribeStudent("s1", "c0"), NoSuchCourse, 'Course "c0" does not exist'),
        (FULL, SubscribeStudent("s4", "c1"), CourseFull, 'Course "c1" is already fully booked'),
        (
            (CourseDefined("c1", 10), StudentSubscribedToCourse("s1", "c1")),
            SubscribeStudent("s1", "c1"),
            AlreadySubscribed,
            "Student already subscribed to this course",
        ),
        (BUSY, SubscribeStudent("s1", "c6"), TooManyCourses, "Student already subscribed to 5 courses"),
        # The checks come in this order: full, subscribed already, too many courses.
        (FULL, SubscribeStudent("s1", "c1"), CourseFull, 'Course "c1" is already fully booked'),
        (
            (*BUSY, CourseDefined("c5", 10)),
            SubscribeStudent("s1", "c5"),
            AlreadySubscribed,
            "Student already subscribed to this course",
        ),
    ],
)
def test_a_student_does_not_subscribe(
    events: tuple[CourseEvent, ...], command: SubscribeStudent, reason: type[Exception], message: str
) -> None:
    given(*events).when(subscribe_student, command).rejected(message)
    assert isinstance(given(*events).when(subscribe_student, command).refusal, reason)


def test_more_capacity_makes_room() -> None:
    given(*FULL, CourseCapacityChanged("c1", 4)).when(subscribe_student, SubscribeStudent("s4", "c1")).then(
        StudentSubscribedToCourse("s4", "c1")
    )


def test_other_courses_and_students_do_not_count() -> None:
    others = (StudentSubscribedToCourse("s9", f"c{n}") for n in range(2, 9))
    given(*FULL[:3], *others).when(subscribe_student, SubscribeStudent("s3", "c1")).then(
        StudentSubscribedToCourse("s3", "c1")
    )
