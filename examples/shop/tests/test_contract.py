"""What the shop stores and publishes does not change by accident: its lock says what the code does."""

from pathlib import Path

from examples.shop.main import make_selling
from refold.contract.compare import compare
from refold.contract.lock import NAME, read, written

LOCK = Path(__file__).parents[1] / NAME


def test_nothing_that_others_rely_on_has_changed() -> None:
    assert not [each for each in compare(read(LOCK), make_selling("memory:").contract()) if each.fails("backward")]


def test_the_lock_says_what_the_code_does() -> None:
    assert LOCK.read_bytes() == written(make_selling("memory:").contract()), (
        "refold contract lock examples.shop.main:make_selling --store memory: --path examples/shop/contract.lock.json"
    )
