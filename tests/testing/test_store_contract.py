"""Every rule of the store contract can be broken, and each wrong store breaks just the rule that it is for.

A net is a rule that catches many faults: it says that something is wrong, seldom what. So it is left out where a wrong
store must fail one rule only, and is shown to catch the faults that it is spread for.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from refold.testing import StoreContract, StoreFixture
from tests.testing.wrong_stores import WRONG, Wrong

RULES = {name: rule for name, rule in inspect.getmembers(StoreContract, inspect.isfunction) if name.startswith("test_")}
NETS = {name for name, rule in RULES.items() if vars(rule)["net"]}
settings.register_profile("unshrunk", phases=[Phase.generate])
WITHOUT_WRONG_STORE: dict[str, str] = {}
"""Rules that no wrong store fails, and why."""


def rule_named(short: str) -> str:
    """Find the rule that is meant by `a1` or `k8_one_wins`."""
    (found,) = [name for name in RULES if f"{name}_".startswith(f"test_{short}_")]
    return found


def outcome(wrong: Wrong, rule: str, tmp_path: Path) -> str:
    """Run one rule on a wrong store."""

    class Contract(StoreContract):
        def fixture(self, tmp_path: Path) -> StoreFixture:
            return wrong.fixture(tmp_path)

    folder = tmp_path / rule
    folder.mkdir(parents=True)
    try:
        getattr(Contract(), rule)(folder)
    except pytest.skip.Exception:
        return "skipped"
    except (NameError, AttributeError, TypeError):  # a mistake in the wrong store is not the fault that it is for
        raise
    except (Exception, pytest.fail.Exception):
        return "failed"
    return "passed"


@pytest.fixture(autouse=True)
def unshrunk() -> Iterator[None]:
    """It is enough to know here that a wrong store is caught; why would take long to find."""
    before = settings.get_current_profile_name()
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(before)


@pytest.mark.parametrize("wrong", [one for one in WRONG if one.rules], ids=lambda wrong: wrong.store.__name__)
def test_fails_its_rule_and_no_other(wrong: Wrong, tmp_path: Path) -> None:
    failed = {rule for rule in sorted(RULES.keys() - NETS) if outcome(wrong, rule, tmp_path) == "failed"}
    assert failed == {rule_named(short) for short in wrong.rules}


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        pytest.param(wrong, rule_named(short), id=f"{wrong.store.__name__}-{short}")
        for wrong in WRONG
        for short in sorted(wrong.nets)
    ],
)
def test_is_caught_in_the_net(wrong: Wrong, rule: str, tmp_path: Path) -> None:
    """It is caught, if not at once: some faults show only if processes meet, which on a busy machine they may not."""
    assert any(outcome(wrong, rule, tmp_path / f"{time}") == "failed" for time in range(4))


def test_every_rule_has_a_store_that_fails_it() -> None:
    failed = {rule_named(short) for wrong in WRONG for short in wrong.rules | wrong.nets}
    assert RULES.keys() - failed == WITHOUT_WRONG_STORE.keys()


def test_every_rule_tells_its_id() -> None:
    for name, rule in RULES.items():
        number = (rule.__doc__ or "").split(":")[0]
        assert name.startswith(f"test_{number.lower()}_"), name


def test_a_missing_capability_is_named(tmp_path: Path) -> None:
    class Contract(StoreContract):
        def fixture(self, tmp_path: Path) -> StoreFixture:
            return StoreFixture(lambda: pytest.fail("opened"))

    for rule in RULES.values():
        for need in vars(rule)["needs"][:1]:
            with pytest.raises(pytest.skip.Exception, match=f"needs the capability '{need}'"):
                rule(Contract(), tmp_path)
