"""Mails: each is requested, and then sent once: ids, events, state, decisions, and the effect that sends them."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Protocol, Self, TypeAlias

from refold import Command, Event, IdempotencyKey, Rejected, State, Tag

OrderId: TypeAlias = Annotated[str, Tag("order")]


class MailRequested(Event):
    order_id: OrderId
    customer_id: str
    subject: str


class MailSent(Event):
    order_id: OrderId
    subject: str


MailEvent: TypeAlias = MailRequested | MailSent


class Correspondence(State):
    """What was written about an order, and to whom."""

    order_id: OrderId
    customer_id: str = ""
    requested: int = 0
    sent: int = 0

    def evolve(self, event: MailEvent) -> Self:
        match event:
            case MailRequested():
                return self.replace(customer_id=event.customer_id, requested=self.requested + 1)
            case MailSent():
                return self.replace(sent=self.sent + 1)


class RequestMail(Command):
    order_id: OrderId
    subject: str
    customer_id: str = ""  # whom we wrote to before, if it is not said


class MarkMailSent(Command):
    order_id: OrderId
    subject: str


class NobodyToWriteTo(Rejected):
    """Nobody has said whose order it is."""


def request_mail(cmd: RequestMail, correspondence: Correspondence) -> Iterable[MailRequested]:
    customer_id = cmd.customer_id or correspondence.customer_id
    if not customer_id:
        raise NobodyToWriteTo
    yield MailRequested(cmd.order_id, customer_id, cmd.subject)


def mark_mail_sent(cmd: MarkMailSent) -> Iterable[MailSent]:
    yield MailSent(cmd.order_id, cmd.subject)


class Post(Protocol):
    """The world outside: of two mails with one key the second is not delivered."""

    async def deliver(self, order_id: str, customer_id: str, subject: str, once: str) -> None: ...


def sending(post: Post) -> Callable[[MailRequested, IdempotencyKey], Awaitable[MarkMailSent]]:
    """Return the effect that hands mails over."""

    async def send_mail(event: MailRequested, once: IdempotencyKey) -> MarkMailSent:
        await post.deliver(event.order_id, event.customer_id, event.subject, once)
        return MarkMailSent(event.order_id, event.subject)

    return send_mail
