"""Reviews: customers score an order, and may change their mind."""

from collections.abc import Iterable
from typing import Self

from examples.shop.orders import Order, OrderId
from refold import Command, Event, Rejected, State


class ReviewSubmitted(Event):
    order_id: OrderId
    review_id: str
    score: int  # 1 to 5


class SubmitReview(Command):
    order_id: OrderId
    review_id: str
    score: int


class NothingToReview(Rejected):
    """The order was not placed yet when it was reviewed."""


class NotAScore(Rejected):
    """A score is 1, 2, 3, 4 or 5."""


class AlreadySubmitted(Rejected):
    """This review was submitted already."""


class Reviews(State):
    """The reviews of an order; the last one counts."""

    order_id: OrderId
    review_ids: tuple[str, ...] = ()
    score: int | None = None

    def evolve(self, event: ReviewSubmitted) -> Self:
        return self.replace(review_ids=(*self.review_ids, event.review_id), score=event.score)


def submit_review(cmd: SubmitReview, order: Order, reviews: Reviews) -> Iterable[ReviewSubmitted]:
    if not order.status:
        raise NothingToReview
    if not 1 <= cmd.score <= 5:
        raise NotAScore
    if cmd.review_id in reviews.review_ids:
        raise AlreadySubmitted
    yield ReviewSubmitted(cmd.order_id, cmd.review_id, cmd.score)
