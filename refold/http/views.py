"""`GET /views/OrderSummary?status=open&order=-total`: the rows of views, filtered, in pages, now and as they were."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, cast

import msgspec
from starlette.responses import Response

from refold.errors import InvalidQuery
from refold.http.call import Call, answer, found
from refold.http.problem import Refusal
from refold.http.stream import EventStream, Sent
from refold.model.hints import hints
from refold.runtime.look import View
from refold.view.find import COMPARES

FOUND = ("order", "limit", "offset", "at_least", "as_of", "search", "count", "where")
WATCHED = ("where", "after")
ASKED = (*FOUND, "after")
"""What a query says besides the fields of rows; a field called so is asked for in `where`, as JSON."""
PAGE = 100


async def find(call: Call) -> Response:
    """Find rows by their fields, or search for words in them."""
    row, view = _view(call)
    where, at_least = conditions(call, row, FOUND), await call.at_least()
    limit, offset = call.limit(PAGE), call.number("offset", 0) or 0
    if (words := call.text("search")) is not None:
        if apart := [name for name in ("as_of", "order", "count") if call.text(name) is not None]:
            raise InvalidQuery(f"search gives the best rows first, of those there are now, so without {apart[0]}")
        hits = await view.search(words, where=where, limit=limit, offset=offset, at_least=at_least)
        return answer({"found": hits})
    as_of = call.as_of()
    order = [name for text in call.texts("order") for name in text.split(",")]
    if len({name.removeprefix("-") for name in order}) < len(order):
        raise InvalidQuery("the order names a field twice")
    count = call.flag("count")

    async def looked() -> dict[str, Any]:
        rows = await view.find(where, order=order, limit=limit, offset=offset, at_least=at_least, as_of=as_of)
        found: dict[str, Any] = {"rows": rows, "next": offset + limit if limit and len(rows) == limit else None}
        if count:
            found["count"] = await view.count(where, as_of=as_of)
        return found

    is_built = as_of is not None and view.is_built()
    return answer(await (call.built(looked()) if is_built else looked()))


async def get(call: Call) -> Response:
    """Get a row by its key."""
    row, view = _view(call)
    texts, names = call.keys(3), call.app.views[row]
    if len(texts) != len(names):
        raise InvalidQuery(
            f"the key of {row.__name__} is {', '.join(names) or 'empty'}; {len(texts)} values were given"
        )
    key = [_value(row, name, text) for name, text in zip(names, texts, strict=True)]
    as_of = call.as_of()
    looked = view.get(*key, at_least=await call.at_least(), as_of=as_of)
    kept = await (call.built(looked) if as_of is not None and view.is_built(by_key=True) else looked)
    if kept is None:
        raise Refusal(404, "NOT_FOUND", f"{row.__name__} has no row {'/'.join(texts)}")
    return answer(kept)


async def watch(call: Call) -> Response:
    """Go on sending the rows that change, beginning now or after a position.

    Its events bear the position before them: who comes back with `Last-Event-ID` may see rows again, but misses none.
    """
    row, view = _view(call)
    where = conditions(call, row, WATCHED)
    after = await call.resumed()
    start = await call.app.head() if after is None else after

    async def changes() -> AsyncIterator[Sent]:
        done = newest = start
        yield Sent("begun", str(start), {"position": start})
        async for change in view.watch(where, after=start):
            done, newest = (newest, change.position) if change.position > newest else (done, newest)
            yield Sent("change", str(done), change)

    return EventStream(changes())


def conditions(call: Call, row: type, asks: Collection[str]) -> dict[str, Any]:
    """Read what rows have to meet: `status=open`, `total__ge=10`, `status__in=open,paid`, or all of it as JSON.

    Besides that, a request may ask these.
    """
    terms = [term for term in call.request.query_params if term not in ASKED]
    found = {term: _compared(row, term, call.text(term) or "") for term in terms}
    call.must_ask([*asks, *terms])
    if (where := call.text("where")) is not None:
        try:
            given = msgspec.json.decode(where, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidQuery(f"where={where[:100]!r} is no JSON object: {error}") from None
        for term, value in given.items():
            if term in found:
                raise InvalidQuery(f"{term} is asked twice: in `where`, and by itself")
            found[term] = _converted(row, term, value)
    return found


def _view(call: Call) -> tuple[type, View[Any]]:
    name = call.path("name")
    call.principal.must_view(name)
    row = found(name, {each.__name__: each for each in call.app.views}, "view")
    return row, call.app.view(row)


def _compared(row: type, term: str, text: str) -> Any:
    return _converted(row, term, text.split(",") if term.endswith("__in") else text)


def _converted(row: type, term: str, value: Any) -> Any:
    """Return a value as the field that it is compared with has it."""
    name, _, compare = term.rpartition("__")
    name = name if name and compare in COMPARES else term
    if compare == "in" and name != term:
        return [
            _value(row, name, each) for each in (cast(Sequence[Any], value) if isinstance(value, list) else [value])
        ]
    return _value(row, name, value)


def _value(row: type, name: str, value: Any) -> Any:
    annotation = hints(row).get(name)
    if annotation is None:
        names = ", ".join(hints(row))
        raise InvalidQuery(f"{row.__name__} has no field {name!r}; it has {names}")
    try:
        return msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidQuery(f"{name}={value!r}: {error}") from None
