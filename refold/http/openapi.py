"""The OpenAPI 3.1 document of an app: what there is to command, load and find, from the types themselves."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

import refold
from refold.app import App
from refold.contract.shape import json_schemas
from refold.http.call import MOST
from refold.http.log import Asked, Batch, Wired
from refold.http.operating import TOLD, Anew
from refold.http.stories import ToldStep
from refold.model.hints import hints
from refold.model.state import state_kind
from refold.runtime.causes import Causes
from refold.store.api import Appended

Json: TypeAlias = dict[str, Any]
SCHEMAS = "#/components/schemas/"


class Position(Struct):
    """From where on an outcome can be seen."""

    position: int


class Problem(Struct):
    """What went wrong (RFC 9457); `code` is stable and safe to match on."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    reason: str | None = None
    """Of a refusal: the class of the `Rejected`."""
    errors: list[Json] = []
    """Of a body that does not fit: where, and what was expected there."""


class EventPage(Struct):
    """A page of events."""

    events: list[Wired]
    upto: int
    next: Json | None
    """The `after` and `upto` of the next page; null at the end."""


class FoundPage(Struct):
    """What a search has found, among the positions above `after` and up to `upto`."""

    events: list[Wired]
    after: int
    upto: int
    next: Json | None
    """The `before` of the next page; null at the end."""


PROBLEMS: Mapping[str, str] = {
    "400": "What was sent makes no sense",
    "401": "Nobody knows this key or token",
    "403": "Not allowed",
    "404": "There is no such thing",
    "408": "It took too long to come",
    "409": "The domain says no, or others were faster",
    "413": "Too large",
    "415": "Not JSON",
    "429": "Too many requests, or open streams",
    "503": "For now",
    "504": "Not in time",
    "507": "There is no more room",
}
TIME = {"type": "string", "format": "date-time"}
TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0, "maximum": MOST}
AT_LEAST = ("at_least", COUNT, "Wait until a position is shown.")
AS_OF = ("as_of", {"anyOf": [COUNT, TIME]}, "What was known then: a position, or a recorded time with a zone.")
EFFECTIVE = ("effective", TIME, "What was true in the world then.")
LIMIT = ("limit", COUNT, "How many at most.")
LAST = {"name": "Last-Event-ID", "in": "header", "schema": COUNT, "description": "Where to go on."}
IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 200},
    "description": "What comes again with it changes nothing; a command is answered as the first.",
}

OCCURRED_AT = ("occurred_at", TIME, "When it happened in the world, with a zone; now, if that is not said.")
CAUSED: Sequence[Json] = [
    {"name": f"Refold-{which}-Id", "in": "header", "schema": TEXT, "description": f"Kept with the events: {said}."}
    for which, said in (("Correlation", "which story they are part of"), ("Causation", "what led to them"))
]


def document(app: App) -> Json:
    """Return the document of an app."""
    own: list[Any] = [Position, Problem, EventPage, FoundPage, Asked, Batch, Appended, ToldStep, Causes]
    own += [kind for told in TOLD for kind in (told.gives, told.takes) if kind is not None]
    kinds: list[type] = list(dict.fromkeys([*app.commands, *app.states, *app.views, *own]))
    refs, components = json_schemas(kinds, SCHEMAS)
    ref = dict(zip(kinds, refs, strict=True))
    paths: Json = {}
    for command in app.commands:
        paths[f"/commands/{command.__name__}"] = {"post": _command(command, ref)}
    for state in app.states:
        keys = tuple(field.name for field in state_kind(state).keys)
        paths["/".join([f"/states/{state.__name__}", *(f"{{{key}}}" for key in keys)])] = {
            "get": _operation(
                "load",
                state,
                ref[state],
                [*_path(keys), _query(*AS_OF), _query(*EFFECTIVE)],
            )
        }
        paths["/".join([f"/stories/{state.__name__}", *(f"{{{key}}}" for key in keys)])] = {
            "get": _story(state, keys, ref)
        }
    for row, keys in app.views.items():
        name = row.__name__
        paths[f"/views/{name}"] = {"get": _find(row, ref)}
        paths["/".join([f"/views/{name}/rows", *(f"{{{key}}}" for key in keys)])] = {
            "get": _operation("get", row, ref[row], [*_path(keys), _query(*AT_LEAST), _query(*AS_OF)])
        }
        watched = [*_filters(row), _query("after", COUNT, "Exclusive; from now on, if that is not said.")]
        paths[f"/views/{name}/watch"] = {"get": _stream(f"watch{name}", "The rows that change.", watched)}
    return {
        "openapi": "3.1.0",
        "info": {"title": app.name or "Refold", "version": refold.__version__},
        "paths": {**paths, **_log(ref), **_operations(ref), **_health()},
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _command(command: type, ref: Mapping[type, Json]) -> Json:
    found = _operation("execute", command, ref[Position], [IDEMPOTENCY, *CAUSED, _query(*OCCURRED_AT)])
    found["requestBody"] = _body(ref[command])
    return found


def _story(state: type, keys: Sequence[str], ref: Mapping[type, Json]) -> Json:
    step = ref[ToldStep]
    story = {
        "type": "object",
        "properties": {
            "start": ref[state],
            "steps": {"type": "array", "items": step},
            "state": ref[state],
            "upto": COUNT,
            "has_earlier": {"type": "boolean"},
            "next": {"type": ["integer", "null"]},
        },
    }
    parameters = [
        *_path(keys),
        _query("after", COUNT, "The first steps after a position, rather than the last ones."),
        _query("upto", COUNT, "Inclusive."),
        _query(*LIMIT),
        _query("states", {"type": "boolean"}, "The state after each step, too."),
        _query(*AS_OF),
        _query(*EFFECTIVE),
    ]
    return _operation("tell", state, story, parameters)


def _find(row: type, ref: Mapping[type, Json]) -> Json:
    page = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": ref[row]},
            "found": {"type": "array", "items": {"type": "object"}},
            "next": {"type": ["integer", "null"]},
            "count": COUNT,
        },
    }
    parameters = [
        *_filters(row),
        _query("search", {"type": "string"}, "Words in the searched fields, the best rows first."),
        _query("order", {"type": "string"}, "Fields, separated by commas; -total from high to low."),
        _query(*LIMIT),
        _query("offset", COUNT, "How many to pass over."),
        _query("count", {"type": "boolean"}, "Count them all, too."),
        _query(*AT_LEAST),
        _query(*AS_OF),
    ]
    return _operation("find", row, page, parameters)


def _filters(row: type) -> list[Json]:
    """Return a parameter for each field; `total__ge` and its like are described, not listed."""
    fields = [_query(name, {"type": "string"}, "Equals; also __ne __lt __le __gt __ge __in.") for name in hints(row)]
    return [*fields, _query("where", {"type": "string"}, "Conditions as a JSON object.")]


def _log(ref: Mapping[type, Json]) -> Json:
    names = {"type": "array", "items": {"type": "string"}}
    query = [
        _query("types", names, "One of these."),
        _query("tags", names, "All of these."),
        _query("query", {"type": "string"}, "A whole query as JSON."),
        _query("after", COUNT, "Exclusive."),
    ]
    bounds = [
        _query("upto", COUNT, "Inclusive."),
        _query("backwards", {"type": "boolean"}, "From the end."),
        _query(*LIMIT),
    ]
    sought = [
        _query("text", {"type": "string"}, 'Words that an event holds, or an id: tea*, "green tea".'),
        _query("since", TIME, "Recorded after a time with a zone."),
        _query("until", TIME, "Recorded by a time with a zone."),
        _query("before", COUNT, "Only what is older than a position."),
        _query(*LIMIT),
    ]
    append_id = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "/log/events": {
            "get": _operation("readLog", None, ref[EventPage], [*query, *bounds], "Read a page of events."),
            "post": _operation("appendToLog", None, ref[Appended], [], "Append events as they are, all or none.")
            | {"requestBody": _body(ref[Batch])},
        },
        "/log/read": {
            "post": _operation("readLogByBody", None, ref[EventPage], [], "Read a page of events; for long queries.")
            | {"requestBody": _body(ref[Asked])}
        },
        "/log/search": {
            "get": _operation(
                "searchLog", None, ref[FoundPage], [*sought, *query[:3]], "Find events, the newest first."
            )
        },
        "/log/appends/{id}": {
            "get": _operation("appended", None, ref[Appended], append_id, "The result of the append that had an id.")
        },
        "/causes/{position}": {
            "get": _operation("causes", None, ref[Causes], _path(["position"]), "What led to an event, and came of it.")
        },
        "/log/head": {"get": _operation("head", None, ref[Position], [], "Up to where everything is visible.")},
        "/log/follow": {"get": _stream("follow", "The events there are, then those that come.", query)},
    }


def _operations(ref: Mapping[Any, Json]) -> Json:
    """Describe what operators see and do."""
    text = {"type": "string"}
    paths: dict[str, Json] = {}
    for told in TOLD:
        asked = [_query(name, COUNT if name in ("before", "limit") else text, "") for name in told.asks]
        parameters = [IDEMPOTENCY if each["name"] == IDEMPOTENCY["name"] else each for each in asked]
        names = [part[1:-1] for part in told.path.split("/") if part.startswith("{")]
        found = _operation(told.name, None, ref[told.gives], [*_path(names), *parameters], told.said)
        if told.takes is not None:
            found["requestBody"] = _body(ref[told.takes])
        if told.takes is Anew:
            found["responses"]["202"] = found["responses"].pop("200")
        paths.setdefault(told.path, {})[told.method] = found
    return paths


def _health() -> Json:
    plain = {"type": "object"}
    found = {
        f"/{name}": {"get": _operation(name, None, plain, [], said)}
        for name, said in {
            "health": "Whether the process answers.",
            "ready": "Whether it can do its work; 503 if not.",
            "version": "What it is.",
        }.items()
    }
    found["/metrics"] = {"get": _operation("metrics", None, plain, [], "Figures, as Prometheus takes them.")}
    found["/metrics"]["get"]["responses"]["200"] = {
        "description": "The text format of Prometheus, or OpenMetrics if that is asked for.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    for name in ("/health", "/ready"):
        found[name]["get"]["security"] = []
    return found


def _operation(verb: str, of: type | None, schema: Json, parameters: Sequence[Json], said: str = "") -> Json:
    name = of.__name__ if of else ""
    doc = inspect.cleandoc(of.__doc__ or "") if of and "__doc__" in vars(of) else ""
    return {
        "operationId": f"{verb}{name}",
        "summary": said or f"{verb.capitalize()} {name}.",
        **({"description": doc} if doc and not doc.startswith(f"{name}(") else {}),
        "parameters": list(parameters),
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": schema}}},
            **_problems(),
        },
    }


def _stream(name: str, said: str, parameters: Sequence[Json]) -> Json:
    found = _operation(name, None, {}, [*parameters, LAST], said)
    found["responses"]["200"] = {
        "description": "Server-sent events; each id is where to take the stream up again.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return found


def _problems() -> Json:
    content = {"application/problem+json": {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    return {status: {"description": said, "content": content} for status, said in PROBLEMS.items()}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _path(names: Sequence[str]) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query(name: str, schema: Json, said: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": said}
