"""Every rule of the bus contract can be broken, and wrong buses are caught by the rules that are for them."""

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from refold.bus.memory import MemoryBus
from refold.testing import BusContract, bus_contract
from tests.testing.wrong_buses import WRONG, Wrong

RULES = {name for name, _ in inspect.getmembers(BusContract, inspect.isfunction) if name.startswith("test_")}
CASES = [pytest.param(wrong, rule, id=f"{wrong.bus.__name__}-{rule}") for wrong in WRONG for rule in wrong.rules]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory comes at once, or never."""
    monkeypatch.setattr(bus_contract, "SOON", 0.3)


def contract(wrong: Wrong) -> BusContract:
    """Return the rules about a wrong bus."""
    kept = wrong.bus()

    class Contract(BusContract):
        @asynccontextmanager
        async def bus(self, tmp_path: Path) -> AsyncGenerator[MemoryBus]:
            yield kept

    return Contract()


@pytest.mark.parametrize(("wrong", "rule"), CASES)
def test_is_caught(wrong: Wrong, rule: str, tmp_path: Path) -> None:
    try:
        getattr(contract(wrong), f"test_{rule}")(tmp_path)
    except (NameError, AttributeError):  # a mistake in the wrong bus is not the fault that it is for
        raise
    except (Exception, pytest.fail.Exception):
        return
    pytest.fail(f"{wrong.bus.__name__} keeps {rule}")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_right_bus_keeps_the_rule(rule: str, tmp_path: Path) -> None:
    getattr(contract(Wrong(MemoryBus, ())), rule)(tmp_path)


def test_every_rule_has_a_bus_that_breaks_it() -> None:
    assert {f"test_{rule}" for wrong in WRONG for rule in wrong.rules} == RULES
