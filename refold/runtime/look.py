"""Looking at what is kept: the view of a projection, as its readers see it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from refold.errors import InvalidQuery
from refold.model.state import State
from refold.view.api import Table, Views, conditions_of, find_of

S = TypeVar("S", bound=State)


class View(Generic[S]):
    """The rows of a projection. Each call can wait until they show a position: `at_least=position`."""

    def __init__(self, table: Table, views: Views, reached: Callable[[int], Awaitable[None]]) -> None:
        self._table = table
        self._views = views
        self._reached = reached

    async def get(self, *key: Any, at_least: int = 0) -> S | None:
        """Return the row with this key, or None."""
        if len(key) != len(self._table.key):
            names = ", ".join(self._table.key) or "empty"
            raise InvalidQuery(f"the key of {self._table.name} is {names}; {len(key)} values were given")
        for value, field in zip(key, self._table.kind.keys, strict=True):
            if not isinstance(value, field.type):
                raise InvalidQuery(
                    f"{self._table.name}.{field.name} is of type {field.type.__name__}, which {value!r} is not"
                )
        await self._reached(at_least)
        return cast(S | None, (await self._views.get(self._table, [key])).get(key))

    async def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        at_least: int = 0,
    ) -> list[S]:
        """Return the rows that meet all conditions, in order.

        `where` compares fields with values: `{"status": "paid", "total__ge": 100}`, with eq, ne, lt, le, gt, ge
        and in. `order` names fields, `"-total"` from high to low; the key decides between equals. Fields that are
        collections or structs are compared as JSON texts, Decimals to about 15 digits.
        """
        find = find_of(self._table, where, order, limit, offset)
        await self._reached(at_least)
        return cast(list[S], await self._views.find(self._table, find))

    async def count(self, where: Mapping[str, Any] | None = None, *, at_least: int = 0) -> int:
        """Count the rows that meet all conditions."""
        conditions = conditions_of(self._table, where)
        await self._reached(at_least)
        return await self._views.count(self._table, conditions)
