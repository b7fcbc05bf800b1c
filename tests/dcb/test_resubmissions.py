from refold.testing.given import given
from tests.dcb.resubmissions import OrderPlaced, PlaceOrder, Resubmission, place_order

PAST = given(OrderPlaced("o12345", "11111"))


def test_a_token_is_used_once_also_for_another_order() -> None:
    outcome = PAST.when(place_order, PlaceOrder("o54321", "11111"))
    outcome.rejected("Re-submission")
    outcome.rejected(Resubmission)


def test_a_new_token_places_an_order() -> None:
    PAST.when(place_order, PlaceOrder("o54321", "22222")).then(OrderPlaced("o54321", "22222"))
