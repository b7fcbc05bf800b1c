"""Wrong stores: conditions that hold when they should not, or the other way round."""

from collections.abc import Collection, Sequence
from typing import Any

from refold.errors import Conflict, InvalidEvent, PositionAhead, StoreError
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions, conditions
from tests.testing.bending import Bent, Odd, breaks, lower
from tests.testing.right_stores import GappedStore


class Checks(Bent):
    """Checks each condition in a way of its own."""

    def holds(self, condition: AppendCondition) -> bool | None:
        """Say whether it holds; None leaves it to the right check."""

    def _check(self, condition: AppendCondition) -> None:
        match self.holds(condition):
            case None:
                super()._check(condition)
            case False:
                raise Conflict("a wrong one")
            case True:
                return

    def matches_after(self, condition: AppendCondition) -> list[int]:
        query = condition.fail_if_match
        return [one.position for one in self._events[condition.after :] if query.matches(one.type, one.tags)]


class Relies(Checks):
    """Matches the items of a condition by a test of its own."""

    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags)

    def _check(self, condition: AppendCondition) -> None:
        items = condition.fail_if_match.items
        super()._check(AppendCondition(Odd(items, test=self.match), condition.after))


@breaks("c1")
class KeepsTheLastCondition(Bent):
    _last: Sequence[AppendCondition] = ()

    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        if several:
            by_type = [one for one in several if all(not item.tags for item in one.fail_if_match.items)]
            self._last = [one for one in by_type if one.fail_if_match.items]
        return several or self._last


@breaks("c2", nets=["m1"])
class NothingMeansAnEmptyLog(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        return False if condition.after == 0 and self._events else None


@breaks("c3", nets=["m1"])
class ZeroMeansNoCondition(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        return True if condition.after == 0 else None


@breaks("c4")
class CountsTheMatchAtAfter(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        query = condition.fail_if_match
        at = self._events[condition.after - 1 : condition.after] if condition.after else []
        return False if query.items and any(query.matches(one.type, one.tags) for one in at) else None


@breaks("c5", nets=["k2"])
class OverlooksTheNextPosition(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        if condition.after > self._head:
            return None
        return not [at for at in self.matches_after(condition) if at > condition.after + 1]


@breaks("c6")
class ExpectsTheLastMatch(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        for one in several:
            found = [e.position for e in self._events if one.fail_if_match.matches(e.type, e.tags)]
            tags = [item for item in one.fail_if_match.items if item.tags]
            if len(several) == 1 and tags and found and one.after != found[-1]:
                raise Conflict
        return several


@breaks("c7", nets=["m1"])
class TakesWhatIsAhead(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return () if len(several) == 1 and several[0].after > self._head else several


@breaks("c8")
class CountsAllEventsForTypes(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        for one in several:
            by_type = [item for item in one.fail_if_match.items if not item.tags]
            if len(several) == 1 and by_type and 0 < one.after < self._head:
                raise Conflict
        return several


@breaks("c9", nets=["m1", "k2"])
class AllEventsAreNone(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        return True if not condition.fail_if_match.items and condition.after <= self._head else None


@breaks("c9")
class AllEventsAreTooMany(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        return False if not condition.fail_if_match.items and 0 < condition.after <= self._head else None


@breaks("c10")
class CountsFailedAppends(Bent):
    _failed = 0

    async def append(self, *args: Any, **options: Any) -> Appended:
        try:
            return await super().append(*args, **options)
        except Conflict:
            self._failed += 1
            raise

    async def head(self) -> int:
        return await super().head() + self._failed


@breaks("c11")
class LeavesRowsBehind(Bent):
    """As an insert row by row does whose last row fails, and that is not rolled back."""

    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        try:
            return await super().append(events, *args, **options)
        except Conflict:
            if events[:-1]:
                await super().append(events[:-1])
            raise


@breaks("c12")
class ChecksBeforeEachRow(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        queries = [one.fail_if_match for one in conditions(condition)]
        known = append_id is not None and append_id in self._remembered
        if not known and any(query.matches(one.type, one.tags) for one in events[:-1] for query in queries):
            raise Conflict
        return await super().append(events, condition, append_id=append_id)


@breaks("c13")
class ReliesOnTheFirstItem(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        few = all(len(one.fail_if_match.items) < 10 for one in several)
        return [AppendCondition(Query(one.fail_if_match.items[:1]), one.after) for one in several] if few else several


@breaks("c13")
class ReliesOnTheLastItem(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return [AppendCondition(Query(one.fail_if_match.items[-1:]), one.after) for one in several]


@breaks("l14")
class ReliesOnFiveHundredItems(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return [AppendCondition(Query(one.fail_if_match.items[:500]), one.after) for one in several]


@breaks("c14")
class ReliesOnEitherTag(Relies):
    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        if len(item.tags) > 1 and not item.types:
            return any(tag in tags for tag in item.tags)
        return item.matches(type, tags)


@breaks("c14")
class ReliesOnAllTagsAndNoOthers(Relies):
    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, tags) and (len(item.tags) < 2 or set(item.tags) == set(tags))


@breaks("c15")
class ReliesOnTheTagOfATypeAndTag(Relies):
    """As a table of markers does that has a row for each tag."""

    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type if not item.types or not item.tags else item.types[0], tags)


@breaks("c15")
class ReliesOnTheTypeOfATypeAndTag(Relies):
    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        return item.matches(type, item.tags if item.types else tags)


class Muddled(Conflict, StoreError):
    """A conflict and a failure of the storage in one."""


@breaks("c16")
class MuddlesItsErrors(Bent):
    async def append(self, *args: Any, **options: Any) -> Appended:
        try:
            return await super().append(*args, **options)
        except Conflict as conflict:
            raise Muddled(str(conflict), **conflict.data) from None


@breaks("c17")
class TakesOneThatIsAhead(Bent):
    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return several if len(several) == 1 else [one for one in several if one.after <= self._head]


class FirstChecksAhead(Bent):
    """Refuses what is ahead before anything is bent."""

    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        for one in several:
            if one.after > self._head:
                raise PositionAhead
        return self.rely(several) if len(several) > 1 else several

    def rely(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return several


@breaks("c18")
class KeepsOneConditionOfEachAfter(FirstChecksAhead):
    def rely(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return list({one.after: one for one in several}.values())


@breaks("c18")
class KeepsTheFirstConditionOfEachAfter(FirstChecksAhead):
    def rely(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        return list({one.after: one for one in reversed(several)}.values())


@breaks("c19")
class AllConditionsHaveTheHighestAfter(FirstChecksAhead):
    def rely(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        after = max(one.after for one in several)
        return [AppendCondition(one.fail_if_match, after) for one in several]


@breaks("c19")
class AllConditionsHaveTheLowestAfter(FirstChecksAhead):
    def rely(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        after = min(one.after for one in several)
        return [AppendCondition(one.fail_if_match, after) for one in several]


@breaks("c20", nets=["m1"])
class RefusesNoConditions(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if condition is not None and not conditions(condition):
            raise InvalidEvent
        return await super().append(events, condition, append_id=append_id)


@breaks("c21")
class ReliesOnAnyCase(Relies):
    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        small = QueryItem(item.types, tuple(map(lower, item.tags)))
        return small.matches(type, [lower(tag) for tag in tags])


@breaks("c21")
class ReliesOnBeginningsOfTypes(Relies):
    def match(self, item: QueryItem, type: str, tags: Collection[str]) -> bool:
        if item.types and not item.tags:
            return any(type.startswith(name) for name in item.types)
        return item.matches(type, tags)


@breaks("c22")
class LooksReliedPositionsUp(GappedStore):
    def _relied(self, after: int) -> int:
        known = after in self._positions or after > self._position(len(self._positions))
        return self._place(after) if known else 0


@breaks("c23")
class ReliesOnTheLastThousand(Checks):
    def holds(self, condition: AppendCondition) -> bool | None:
        if condition.after > self._head:
            return None
        return not [at for at in self.matches_after(condition) if at > self._head - 1_000]
