from refold import Query
from refold.testing.given import given
from tests.dcb.invoices import CreateInvoice, InvoiceCreated, NextInvoiceNumber, create_invoice

DATA = {"foo": "bar"}


def test_the_first_invoice_is_number_1() -> None:
    given().when(create_invoice, CreateInvoice(DATA)).then(InvoiceCreated(1, DATA))


def test_the_next_is_one_more() -> None:
    given(InvoiceCreated(1, DATA)).when(create_invoice, CreateInvoice(DATA)).then(InvoiceCreated(2, DATA))


def test_numbers_have_no_gaps() -> None:
    past = given()
    for number in range(1, 51):
        past = past.when(create_invoice, CreateInvoice(DATA)).then(InvoiceCreated(number, DATA))


def test_its_query_has_a_type_and_no_tags() -> None:
    assert NextInvoiceNumber().query() == Query.of(types=["InvoiceCreated"])
