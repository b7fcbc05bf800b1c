"""The races of the specification, through the real app: K10 and K11."""

import asyncio
from contextlib import AsyncExitStack

import tests.dcb.courses as courses
import tests.dcb.invoices as invoices
from refold import App, Rejected
from tests.conftest import Log
from tests.dcb.courses import CourseDefined, StudentSubscribedToCourse, SubscribeStudent


def course_app(log: Log) -> App:
    return App(
        log,
        events=courses.CourseDefined | courses.CourseCapacityChanged | courses.StudentSubscribedToCourse,
        decisions=[courses.define_course, courses.change_course_capacity, courses.subscribe_student],
    )


async def test_k10_of_thirty_students_three_get_the_three_seats(log: Log) -> None:
    async with AsyncExitStack() as exits:
        apps = [await exits.enter_async_context(course_app(log)) for _ in range(3)]
        await apps[0].record(CourseDefined("c1", 3))
        attempts = [apps[n % 3].execute(SubscribeStudent(f"s{n}", "c1")) for n in range(30)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        refused = [str(each) for each in outcomes if isinstance(each, Rejected)]
        assert refused == ['Course "c1" is already fully booked'] * 27
        assert len([each async for each in apps[0].events(StudentSubscribedToCourse)]) == 3


async def test_k11_fifty_at_once_give_fifty_numbers_without_a_gap(log: Log) -> None:
    async with AsyncExitStack() as exits:
        apps = [
            await exits.enter_async_context(
                App(log, events=invoices.InvoiceCreated, decisions=[invoices.create_invoice])
            )
            for _ in range(2)
        ]
        await asyncio.gather(*(apps[n % 2].execute(invoices.CreateInvoice({})) for n in range(50)))
        written = [each.event async for each in apps[0].events(invoices.InvoiceCreated)]
        assert [each.invoice_number for each in written] == list(range(1, 51))
