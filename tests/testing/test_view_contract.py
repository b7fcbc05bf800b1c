"""Every rule of the view contract can be broken, and wrong views are caught by the rules that are for them."""

import inspect
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import ref

import pytest
from hypothesis import Phase, settings

from refold.store.memory import MemoryStore
from refold.testing import ViewContract
from refold.view.memory import MemoryViews
from tests.testing.wrong_views import WRONG, Wrong

RULES = {name for name, _ in inspect.getmembers(ViewContract, inspect.isfunction) if name.startswith("test_")}
CASES = [pytest.param(wrong, rule, id=f"{wrong.views.__name__}-{rule}") for wrong in WRONG for rule in wrong.rules]
settings.register_profile("views-unshrunk", phases=[Phase.generate], derandomize=True)


@pytest.fixture(autouse=True)
def unshrunk() -> Iterator[None]:
    """It is enough to know here that wrong views are caught, and in every run; why would take long to find."""
    before = settings.get_current_profile_name()
    settings.load_profile("views-unshrunk")
    yield
    settings.load_profile(before)


def contract(wrong: Wrong) -> ViewContract:
    """Return the rules about wrong views."""
    log, kept = MemoryStore(), wrong.views()

    class Contract(ViewContract):
        @asynccontextmanager
        async def beside(self, tmp_path: Path) -> AsyncGenerator[tuple[MemoryStore, MemoryViews]]:
            views = wrong.views() if wrong.forgets else kept
            views.beside = ref(log)
            yield log, views

    return Contract()


@pytest.mark.parametrize(("wrong", "rule"), CASES)
def test_is_caught(wrong: Wrong, rule: str, tmp_path: Path) -> None:
    try:
        getattr(contract(wrong), f"test_{rule}")(tmp_path)
    except (NameError, AttributeError):  # a mistake in the wrong views is not the fault that they are for
        raise
    except (Exception, pytest.fail.Exception):
        return
    pytest.fail(f"{wrong.views.__name__} keep {rule}")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_right_views_keep_the_rule(rule: str, tmp_path: Path) -> None:
    getattr(contract(Wrong(MemoryViews, (), forgets=False)), rule)(tmp_path)


def test_every_rule_has_views_that_break_it() -> None:
    assert {f"test_{rule}" for wrong in WRONG for rule in wrong.rules} == RULES
