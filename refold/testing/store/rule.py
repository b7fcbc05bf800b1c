"""How a rule is run: a coroutine turned into a plain test, on stores that are closed behind it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from refold.errors import StoreClosed
from refold.store.api import Store
from refold.testing.store.fixture import NEEDS, Need, StoreFixture

Test = TypeVar("Test", bound=Callable[..., None])


class StoreRules(ABC):
    """What the themes of the contract share: the fixture that a backend gives."""

    @abstractmethod
    def fixture(self, tmp_path: Path) -> StoreFixture:
        """Return the fixture of one isolated store, which may keep its files in `tmp_path`."""

    def able(self, tmp_path: Path, *needs: Need) -> StoreFixture:
        """Return the fixture, or skip the rule and say which capability is missing."""
        fixture = self.fixture(tmp_path)
        for need in needs:
            if not getattr(fixture, need):
                pytest.skip(f"needs the capability {need!r}: {NEEDS[need]}")
        return fixture


class Bench:
    """Opens the stores of one rule, and closes them when it is over."""

    def __init__(self, rules: StoreRules, tmp_path: Path, fixture: StoreFixture, closing: AsyncExitStack) -> None:
        self.fixture = fixture
        self._rules = rules
        self._tmp_path = tmp_path
        self._closing = closing

    async def open(self, **options: Any) -> Store:
        """Open a handle to the rule's store."""
        store = await self.fixture.connect(**options)
        self._closing.push_async_callback(_close, store)
        return store

    async def reopen(self, store: Store, **options: Any) -> Store:
        """Close a handle and open another."""
        await store.close()
        return await self.open(**options)

    async def another(self) -> Store:
        """Open a store that has nothing to do with the rule's store."""
        folder = self._tmp_path / "another"
        folder.mkdir()
        store = await self._rules.fixture(folder).connect()
        self._closing.push_async_callback(_close, store)
        return store


Body: TypeAlias = Callable[[Any, Bench], Coroutine[Any, Any, None]]


def marked(*needs: Need, net: bool = False) -> Callable[[Test], Test]:
    """Note on a test what it needs, and whether it is a net: one that catches many faults, not one."""

    def mark(test: Test) -> Test:
        vars(test).update(needs=needs, net=net)
        return test

    return mark


def rule(*needs: Need, net: bool = False) -> Callable[[Body], Callable[[Any, Path], None]]:
    """Make a test of a coroutine, so that no plugin is needed to run it."""

    def made(body: Body) -> Callable[[Any, Path], None]:
        @marked(*needs, net=net)
        def test(self: StoreRules, tmp_path: Path) -> None:
            asyncio.run(_run(body, self, tmp_path, self.able(tmp_path, *needs)))

        # Not functools.wraps: pytest would follow it, and ask for a fixture named bench.
        test.__name__, test.__qualname__ = body.__name__, body.__qualname__
        test.__doc__, test.__module__ = body.__doc__, body.__module__
        return test

    return made


async def _close(store: Store) -> None:
    with suppress(StoreClosed):  # whether that may be raised is rule S1
        await store.close()


async def _run(body: Body, rules: StoreRules, tmp_path: Path, fixture: StoreFixture) -> None:
    async with asyncio.timeout(fixture.patience), AsyncExitStack() as closing:
        await body(rules, Bench(rules, tmp_path, fixture, closing))
