"""Record duplication: a form that is sent twice orders once, whatever id it comes with."""

from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Rejected, State, Tag

OrderId: TypeAlias = Annotated[str, Tag("order")]
IdempotencyToken: TypeAlias = Annotated[str, Tag("idempotency")]


class OrderPlaced(Event):
    order_id: OrderId
    idempotency_token: IdempotencyToken


class PlaceOrder(Command):
    order_id: OrderId
    idempotency_token: IdempotencyToken


class Resubmission(Rejected):
    """Re-submission"""


class Token(State):
    idempotency_token: IdempotencyToken
    used: bool = False

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(used=True)


def place_order(cmd: PlaceOrder, token: Token) -> OrderPlaced:
    if token.used:
        raise Resubmission
    return OrderPlaced(cmd.order_id, cmd.idempotency_token)
