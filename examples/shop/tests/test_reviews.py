"""Reviews: scores, once for each review, of orders that exist."""

import pytest

from examples.shop.orders import Order, Status
from examples.shop.reviews import (
    AlreadySubmitted,
    NotAScore,
    NothingToReview,
    Reviews,
    ReviewSubmitted,
    SubmitReview,
    submit_review,
)

ORDER = Order("o-1", Status.DELIVERED)


def test_the_last_review_counts() -> None:
    reviews = Reviews("o-1").fold([ReviewSubmitted("o-1", "r-1", 2), ReviewSubmitted("o-1", "r-2", 5)])
    assert reviews.score == 5


def test_an_order_is_reviewed_after_it_was_placed() -> None:
    review = SubmitReview("o-1", "r-1", 4)
    assert list(submit_review(review, ORDER, Reviews("o-1"))) == [ReviewSubmitted("o-1", "r-1", 4)]
    with pytest.raises(NothingToReview):
        list(submit_review(review, Order("o-1"), Reviews("o-1")))


@pytest.mark.parametrize("score", [0, 6])
def test_a_score_is_one_to_five(score: int) -> None:
    with pytest.raises(NotAScore):
        list(submit_review(SubmitReview("o-1", "r-1", score), ORDER, Reviews("o-1")))


def test_a_review_is_submitted_once() -> None:
    with pytest.raises(AlreadySubmitted):
        list(submit_review(SubmitReview("o-1", "r-1", 4), ORDER, Reviews("o-1", ("r-1",), 4)))
