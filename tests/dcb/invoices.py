"""Invoice numbers without gaps: a state of which the log has one."""

from typing import Annotated, Self

from refold import Command, Event, Singleton, Tag


class InvoiceCreated(Event):
    invoice_number: Annotated[int, Tag("invoice")]
    invoice_data: dict[str, str]


class CreateInvoice(Command):
    invoice_data: dict[str, str]


class NextInvoiceNumber(Singleton):
    number: int = 1

    def evolve(self, event: InvoiceCreated) -> Self:
        return self.replace(number=event.invoice_number + 1)


def create_invoice(cmd: CreateInvoice, following: NextInvoiceNumber) -> InvoiceCreated:
    return InvoiceCreated(following.number, cmd.invoice_data)
