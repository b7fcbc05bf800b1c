"""Versions of a projection: each has tables and subscriptions of its own, and one of them is the one that is read.

A version is built beside the one that is read, however long that takes. When it has caught up, which one is read
changes in one step; the one before is kept, so that a step leads back. Whoever runs an older program meanwhile keeps
its own version up and reads what fits it, so that no reader ever meets rows of two definitions.

The name of a version is never used twice: who drops one may be killed before its tables are gone, or be so late that
another is begun meanwhile, and neither may meet the rows of the other.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from refold.errors import InvalidQuery, NotKept
from refold.runtime.books import CHECKPOINTS, PARKED, VERSIONS, Books, Checkpoint, Status, TableShape, Version
from refold.runtime.owner import is_gone
from refold.runtime.project import Definition
from refold.view.api import Delete, Expect, Put, Write
from refold.view.table import Form, Table, shaped

FRESH_SECONDS = 0.25
"""How long it may take until a reader in another process notices that another version is read now."""
FIRST = "first"
"""The name under which is kept that a projection has had a version that is read: no two programs begin the first."""


class Versions:
    """The versions of one projection."""

    def __init__(self, definition: Definition, books: Books) -> None:
        self.definition = definition
        self.books = books
        self._rows: list[Version] = []
        self._read_at = -FRESH_SECONDS

    async def all(self, *, fresh: bool = True) -> list[Version]:
        """Return the versions that there are; those of a moment ago if they need not be fresh."""
        now = asyncio.get_running_loop().time()
        if fresh or now - self._read_at > FRESH_SECONDS or not self._rows:
            self._rows = await self.books.versions(self.definition.name)
            self._read_at = now
        return self._rows

    def learn(self, rows: Sequence[Version]) -> None:
        """Take in what was read of the versions of all projections at once."""
        self._rows = [row for row in rows if row.projection == self.definition.name]
        self._read_at = asyncio.get_running_loop().time()

    async def active(self) -> Version | None:
        """Return the version that is read."""
        return next((row for row in await self.all() if row.status == "active"), None)

    async def own(self, *, fresh: bool = True) -> Version | None:
        """Return the version of this program: the one that is read if it is of this definition, or the newest."""
        return self._own(await self.all(fresh=fresh))

    def _own(self, rows: Sequence[Version]) -> Version | None:
        own = [row for row in rows if row.fingerprint == self.definition.fingerprint]
        own.sort(key=lambda row: (row.status == "active", row.started_at or datetime.min.replace(tzinfo=UTC)))
        return own[-1] if own else None

    async def prepare(self, head: int) -> Version:
        """Return the version of this program, with its tables; begin it if there is none."""
        while True:
            ever = await self._ever()
            for row in ever:
                if row.status == "dropped":
                    await self._clear(row)  # whoever dropped it was killed
            if (own := self._own(self._rows)) is not None:
                await self.books.views.create(self.definition.tables(own.version))
                return own
            status: Status = "building" if any(row.status == "active" for row in ever) else "active"
            await self._begin(
                self._begun(_new_name(ever, self.definition), status, self.definition.how.parts, target=head)
            )

    async def rebuild(self, head: int, *, parts: int, hold: bool) -> Version:
        """Begin a version of this program's definition, whether there is one or not, to be built in so many parts."""
        ever = await self._ever()
        begun = replace(self._begun(_new_name(ever, self.definition), "building", parts, target=head), hold=hold)
        under_way = any(row.status == "building" and row.fingerprint == begun.fingerprint for row in ever)
        if under_way or not await self._begin(begun):
            raise InvalidQuery(f"{self.definition.name} is being rebuilt already; wait for it, or drop what was begun")
        return begun

    async def _ever(self) -> list[Version]:
        """Return the versions that there are and were: read at once, so that of two who begin one at that moment,
        both choose the same name, and one is refused.
        """  # noqa: D205
        ever = await self.books.versions(self.definition.name, ever=True)
        self.learn([row for row in ever if row.status != "dropped"])
        return ever

    def _begun(self, version: str, status: Status, parts: int, *, target: int) -> Version:
        definition = self.definition
        return Version(
            definition.name,
            version,
            definition.fingerprint,
            status,
            tuple(map(_shape, definition.tables(version))),
            parts=parts,
            target=target,
            started_at=datetime.now(UTC),
        )

    async def _begin(self, version: Version) -> bool:
        """Begin a version, unless somebody else has begun one of this name, or the first one that is read."""
        await self.books.views.create(self.definition.tables(version.version))
        rows = [version]
        if version.status == "active":
            rows.append(Version(version.projection, FIRST, "", "dropped", ()))
        if not await self.books.write(
            Put(VERSIONS, rows), expects=[Expect(VERSIONS, VERSIONS.key_of(row)) for row in rows]
        ):
            return False
        if version.status == "active":
            await self._expose(version)
        return True

    async def shown(self) -> Version:
        """Return the version that this program reads: the one that all do, if its rows fit, or its own."""
        rows = await self.all(fresh=False)
        active = next((row for row in rows if row.status == "active"), None)
        if active is not None and self._fits(active):
            return active
        own = await self.own()
        if own is not None and own.status != "building":
            return own
        name = self.definition.name
        if active is None:
            raise NotKept(
                f"{name} is not kept yet: no app has run on this log with it among its `projections`", view=name
            )
        raise NotKept(
            f"{name} has other fields now than the version that is read ({active.version}); "
            "its own version is still being built",
            view=name,
            version=active.version,
        )

    async def position(self, version: Version) -> int:
        """Return how far a version has come."""
        found = await self.books.checkpoints(version.subscriptions())
        return min((found[name].position if name in found else 0 for name in version.subscriptions()), default=0)

    def _fits(self, version: Version) -> bool:
        """Tell whether the rows of a version have all that this program's have."""
        if version.fingerprint == self.definition.fingerprint:
            return True
        kept = {shape.name: shape for shape in version.tables}
        for wanted in map(_shape, self.definition.tables(version.version)):
            found = kept.get(wanted.name)
            if found is None or not set(wanted.columns) <= set(found.columns) or wanted.dated != found.dated:
                return False
        return True

    async def switch(self, version: Version, *, pinned: bool = False) -> bool:
        """Let a version be the one that is read, in one step, and drop those before the last; False if it is not."""
        rows = await self.all()
        if version.status == "active" or version.version not in {row.version for row in rows}:
            return False
        return await self._switch(rows, replace(version, pinned=pinned), leave="kept")

    async def rollback(self) -> Version:
        """Let the version that was read before be read again."""
        rows = await self.all()
        before = [row for row in rows if row.status == "kept"]
        if not before:
            raise InvalidQuery(f"{self.definition.name} has no earlier version to go back to")
        version = max(before, key=lambda row: row.switched_at or row.started_at or datetime.min.replace(tzinfo=UTC))
        if not await self._switch(rows, replace(version, pinned=True), leave="rejected"):
            raise changed_meanwhile(self.definition.name)
        return await self.named(version.version)

    async def named(self, version: str) -> Version:
        """Return a version as it is now."""
        for row in await self.all():
            if row.version == version:
                return row
        raise InvalidQuery(f"version {version} of {self.definition.name} was dropped meanwhile")

    async def _switch(self, rows: Sequence[Version], version: Version, *, leave: str) -> bool:
        now = datetime.now(UTC)
        changed = [replace(version, status="active", switched_at=now, hold=False)]
        expects = [_as_is(version)]
        for row in rows:
            if row.status == "active":
                changed.append(replace(row, status="kept" if leave == "kept" else "rejected", switched_at=now))
                expects.append(_as_is(row))
        if not await self.books.write(Put(VERSIONS, changed), expects=expects):
            return False
        self._rows = []
        await self._expose(version)
        if leave == "kept":
            stay = {row.version for row in changed}
            for row in rows:
                if row.version not in stay and (row.status != "building" or await self._was_given_up(row, version)):
                    await self.drop(row)
        return True

    async def is_left(self, version: Version) -> bool:
        """Tell whether nobody keeps a version up any more."""
        found = await self.books.checkpoints(version.subscriptions())
        return all(not row.owner or is_gone(row.owner) for row in found.values())

    async def _was_given_up(self, version: Version, newer: Version) -> bool:
        """Tell whether a version was being built before a newer one was begun, and nobody builds it any more."""
        begun = [each.started_at or datetime.min.replace(tzinfo=UTC) for each in (version, newer)]
        return begun[0] < begun[1] and await self.is_left(version)

    async def drop(self, version: Version) -> bool:
        """Remove a version with its rows, its checkpoints and what was parked of it; False if it has changed."""
        if version.status == "active":
            raise InvalidQuery(f"{version.projection} {version.version} is the version that is read; it stays")
        dropped = replace(version, status="dropped", fingerprint="")
        writes: list[Write] = [Put(VERSIONS, [dropped])]
        for name in version.subscriptions():
            parked = await self.books.find(PARKED, {"subscription": name})
            writes += [Delete(CHECKPOINTS, [(name,)]), Delete(PARKED, list(map(PARKED.key_of, parked)))]
        self._rows = []
        if not await self.books.write(*writes, expects=[_as_is(version)]):
            return False
        await self._clear(dropped)
        return True

    async def _clear(self, dropped: Version) -> None:
        """Remove the tables of a version that was dropped; what stays of it is its name."""
        if dropped.tables:
            await self.books.views.drop([shape.stored for shape in dropped.tables])
            await self.books.write(Put(VERSIONS, [replace(dropped, tables=(), comparison=None)]))

    async def collapse(self, version: Version) -> bool:
        """Let one subscription go on where all the parts have ended; False if they have not, or somebody else did."""
        names = version.subscriptions()
        found = await self.books.checkpoints(names)
        ends = {row.position for row in found.values()}
        if len(found) < len(names) or len(ends) != 1 or min(ends) < version.target:
            return False
        whole = replace(version, parts=self.definition.how.parts)
        [end] = ends
        expects = [_as_is(version)]
        expects += [Expect(CHECKPOINTS, (name,), {"position": end, "owner": ""}) for name in names]
        begun = [Checkpoint(name, position=end, moved_at=datetime.now(UTC)) for name in whole.subscriptions()]
        ended = Delete(CHECKPOINTS, [(name,) for name in names])
        self._rows = []
        return await self.books.write(Put(VERSIONS, [whole]), ended, Put(CHECKPOINTS, begun), expects=expects)

    async def note(self, version: Version, **changes: object) -> bool:
        """Change what is said of a version."""
        done = await self.books.write(Put(VERSIONS, [replace(version, **changes)]), expects=[_as_is(version)])
        self._rows = []
        return done

    async def _expose(self, version: Version) -> None:
        for shape in version.tables:  # of which this program may know less than is there
            await self.books.views.expose(shaped(shape.name, version.version, shape.columns))


def stands(version: Version) -> Expect:
    """Return the expectation that a version was not dropped, nor its parts put together."""
    return Expect(VERSIONS, VERSIONS.key_of(version), {"fingerprint": version.fingerprint, "parts": version.parts})


def changed_meanwhile(projection: str) -> InvalidQuery:
    """Return the error of who was outrun."""
    return InvalidQuery(f"{projection} was changed by somebody else at the same time; look, and try again")


def _new_name(ever: Sequence[Version], definition: Definition) -> str:
    """Return a name that no version has, nor has had."""
    taken = {row.version for row in ever}
    names = (f"{definition.fingerprint}{f'-{n}' if n else ''}" for n in range(len(taken) + 1))
    return next(name for name in names if name not in taken)


def _shape(table: Table) -> TableShape:
    columns: tuple[tuple[str, Form], ...] = tuple((column.name, column.form) for column in table.columns)
    return TableShape(table.name, table.stored, columns, dated=table.key[-1:] == ("valid_to",))


def _as_is(version: Version) -> Expect:
    values = {"status": version.status, "parts": version.parts, "hold": version.hold}
    return Expect(VERSIONS, (version.projection, version.version), values)
