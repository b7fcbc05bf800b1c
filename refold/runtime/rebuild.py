"""Rebuilding a projection beside the one that is read: in worker processes by shares of its keys, then switched to.

All that matters is in the database: which version, its parts and how far each has come. Whoever is killed, worker or
the one who started them, leaves something that the next one goes on with.
"""

import asyncio
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from refold.errors import InvalidQuery, SubscriptionFailed, WiringError
from refold.model.schema import Schema
from refold.runtime.books import Books, Version
from refold.runtime.compare import comparison_of
from refold.runtime.owner import Owner
from refold.runtime.project import Definition
from refold.runtime.subscription import Subscription
from refold.runtime.versions import Versions, stands
from refold.store.api import Store
from refold.store.open import open_store
from refold.view.open import open_views, open_views_at

Stage: TypeAlias = Literal["building", "catching up", "comparing", "held", "switched"]
LOOK_SECONDS = 0.1
STALLED_SECONDS = 60.0
RESTARTS = 3
"""How often a worker that dies is started again."""


class Progress(Struct, frozen=True):
    """How far a rebuild is."""

    stage: Stage
    done: int
    """Positions that are done, of `total`."""
    total: int
    rate: float = 0.0
    """Positions a second, since it was begun or taken up again."""
    version: Version | None = None
    stalled: str = ""
    """At which event it has stood for a minute, and why, if it has."""

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this rate; None if that cannot be told."""
        return (self.total - self.done) / self.rate if self.rate else None


class Recipe(Struct, frozen=True):
    """What a worker needs to make its share of a projection: everything but the log itself."""

    store: str
    database: str | None
    define: Callable[[Any, Schema], Definition]
    how: Any
    events: Any
    upcasters: Sequence[Callable[..., Any]]


class Rebuild:
    """One rebuild, from its beginning or from where an earlier one has left it."""

    def __init__(self, definition: Definition, versions: Versions, store: Store, owner: Owner) -> None:
        self._definition = definition
        self._versions = versions
        self._store = store
        self._owner = owner

    async def run(
        self, workers: int, recipe: Recipe | None, *, hold: bool, tell: Callable[[Progress], None]
    ) -> Version:
        """Build, catch up, compare, and switch unless it is to be held; return the version."""
        await self._versions.books.open()
        version = await self._begin(workers, hold=hold)
        if version.parts != self._definition.how.parts:
            await self._build(version, recipe, tell)
            await self._versions.collapse(version)  # unless another process has done so
            version = await self._versions.named(version.version)
            if version.parts != self._definition.how.parts:
                raise SubscriptionFailed(f"the parts of {version.projection} {version.version} have not come together")
        await self._finish(version, tell)
        return await self._versions.named(version.version)

    async def _begin(self, workers: int, *, hold: bool) -> Version:
        """Go on with what is being built of this definition, or begin."""
        definition = self._definition
        parts = workers if definition.divisible else 1
        while True:
            for row in await self._versions.all():
                if row.status == "building" and row.fingerprint == definition.fingerprint:
                    await self._versions.books.views.create(definition.tables(row.version))
                    return row
            with suppress(InvalidQuery):  # if another process begins at this moment, go on with what that one builds
                return await self._versions.rebuild(await self._store.head(), parts=parts, hold=hold)

    async def _build(self, version: Version, recipe: Recipe | None, tell: Callable[[Progress], None]) -> None:
        """Have workers build the parts, each in a process of its own."""
        if recipe is None:
            raise WiringError("an app on an open store cannot start workers: give it the address of the store")
        team = _Team(recipe, version)
        watch = _Watch(self._versions.books, self._store, version, tell)
        try:
            team.start()
            while not await watch.look("building", version.subscriptions(), version.target):
                team.look_after()
                await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(team.wait)  # until they have let go of their parts
        finally:
            team.stop()

    async def _finish(self, version: Version, tell: Callable[[Progress], None]) -> None:
        """Catch up, compare, and switch."""
        definition, versions = self._definition, self._versions
        names, parts = version.subscriptions(), version.parts
        subscriptions = [
            Subscription(
                name,
                definition.worker(versions.books.views, version.version, part, parts),
                self._store,
                versions.books,
                self._owner,
                while_=stands(version),
            )
            for part, name in enumerate(names)
        ]
        watch = _Watch(versions.books, self._store, version, tell)
        try:
            for each in subscriptions:
                await each.start()
            while not await self._caught_up(subscriptions):
                await watch.look("catching up", names, await self._store.head())
                await asyncio.sleep(LOOK_SECONDS)
            active = await versions.active()
            if active is not None and active.version != version.version and version.comparison is None:
                await watch.look("comparing", names, await self._store.head())
                await versions.note(version, comparison=await comparison_of(versions, self._store, active, version))
            version = await self._versions.named(version.version)
            if not version.hold and version.status != "active":
                await versions.switch(version)
            version = await self._versions.named(version.version)
            head = await self._store.head()
            tell(Progress("held" if version.hold else "switched", head, head, version=version))
        finally:
            for each in subscriptions:
                await each.stop()

    async def _caught_up(self, subscriptions: Sequence[Subscription]) -> bool:
        head = await self._store.head()
        for each in subscriptions:
            if each.failure is not None:
                raise SubscriptionFailed(str(each.failure), **each.failure.data) from each.failure.__cause__
            if each.parking:
                raise SubscriptionFailed(
                    f"{each.name} has parked events: see `refold parked list`, mend their cause, and rebuild again; "
                    "the version that is read stays"
                )
        return all(each.position >= head for each in subscriptions)


class _Watch:
    """Looks at checkpoints, and tells how far they are and how fast they move."""

    def __init__(self, books: Books, store: Store, version: Version, tell: Callable[[Progress], None]) -> None:
        self._books = books
        self._store = store
        self._version = version
        self._tell = tell
        self._since = self._moved = _now()
        self._start: int | None = None
        self._done = -1

    async def look(self, stage: Stage, names: Sequence[str], total: int) -> bool:
        """Tell how far it is; return whether all have come to the end."""
        found = await self._books.checkpoints(names)
        positions = [found[name].position if name in found else 0 for name in names]
        done = sum(positions) // len(positions)
        if self._start is None:
            self._start = done
        if done != self._done:
            self._done, self._moved = done, _now()
        rate = (done - self._start) / max(_now() - self._since, 0.001)
        stalled = ""
        if _now() - self._moved > STALLED_SECONDS and min(positions) < total:
            trouble = next((row.trouble for row in found.values() if row.trouble), "it is being handled")
            stalled = f"no progress for {_now() - self._moved:.0f} s: {await self._next(min(positions))}: {trouble}"
        self._tell(Progress(stage, done, total, rate, self._version, stalled))
        return min(positions) >= total

    async def _next(self, position: int) -> str:
        async for page in self._store.read(after=position, limit=1):
            for stored in page:
                return f"at position {stored.position}, {stored.type}"
        return f"after position {position}"


class _Team:
    """The worker processes of a rebuild."""

    def __init__(self, recipe: Recipe, version: Version) -> None:
        try:
            self._recipe = pickle.dumps(recipe)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WiringError(
                f"what {version.projection} is made of cannot be sent to workers ({error}): define events, states and "
                "upcasters at the top level of a module, or rebuild with one worker"
            ) from error
        self._version = version
        self._context = multiprocessing.get_context("spawn")
        self._members: dict[int, BaseProcess] = {}
        self._restarts = 0

    def start(self) -> None:
        """Start one worker for each part."""
        for part in range(self._version.parts):
            self._start(part)

    def look_after(self) -> None:
        """Start again a worker that has died; raise `SubscriptionFailed` if they keep dying."""
        for part, member in self._members.items():
            if member.exitcode:
                self._restarts += 1
                if self._restarts > RESTARTS:
                    raise SubscriptionFailed(
                        f"workers of {self._version.projection} keep failing (exit code {member.exitcode}); "
                        "what they have built stays, and the next rebuild goes on from there"
                    )
                self._start(part)

    def wait(self) -> None:
        """Wait until all have done their work."""
        for each in self._members.values():
            each.join()

    def stop(self) -> None:
        """Stop those that are at work."""
        for each in self._members.values():
            each.terminate()
        for each in self._members.values():
            each.join()

    def _start(self, part: int) -> None:
        arguments = (self._recipe, self._version.version, part, self._version.parts)
        member = self._context.Process(target=_work, args=arguments, daemon=True)
        member.start()
        self._members[part] = member


def _work(recipe: bytes, version: str, part: int, parts: int) -> None:
    """Build one part: the body of a worker process."""
    asyncio.run(_build_part(pickle.loads(recipe), version, part, parts))  # noqa: S301 - from the process that started this


async def _build_part(recipe: Recipe, name: str, part: int, parts: int) -> None:
    definition = recipe.define(recipe.how, Schema(recipe.events, recipe.upcasters))
    store = await open_store(recipe.store, create=False)
    views = await open_views_at(recipe.database) if recipe.database else open_views(store)
    books, owner = Books(views), Owner()
    try:
        versions = Versions(definition, books)
        version = next((row for row in await versions.all() if row.version == name), None)
        if version is None or version.parts != parts:  # dropped, or put together: somebody was faster
            return
        worker = definition.worker(views, name, part, parts)
        name = version.subscriptions()[part]
        until, while_ = version.target, stands(version)
        subscription = Subscription(name, worker, store, books, owner, until=until, while_=while_)
        await subscription.start()
        try:
            await subscription.ended()
        finally:
            await subscription.stop()
    finally:
        owner.close()
        await views.close()
        await store.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
