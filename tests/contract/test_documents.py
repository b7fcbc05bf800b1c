"""A JSON Schema is a file of its own, valid, and takes whatever is stored; AsyncAPI says the same to other tools."""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

from examples.shop.main import make_selling
from refold import App, Event
from refold.contract.asyncapi import asyncapi, cloud_event
from refold.contract.describe import Contract, event_forms
from refold.contract.documents import example, file_part, schema_document, schema_documents
from refold.contract.fields import rows_of
from refold.model.schema import Schema
from refold.testing.strategies import events_of
from tests.contract.making import told
from tests.contract.node import packages
from tests.contract.telling import HOSTILE, PUBLISHED, make_app

CONTRACT = make_app().contract()


def document_of(kind: type[Event]) -> dict[str, Any]:
    [form] = event_forms(Schema([kind], own=False))
    return schema_document(form, "urn:test:")


def test_there_is_one_for_each_version_of_what_is_stored_published_and_taken() -> None:
    files = dict(schema_documents(CONTRACT))
    assert {"stored/OrderPlaced.v1.schema.json", "stored/OrderPlaced.v2.schema.json"} < set(files)
    assert {"published/Replied.v1.schema.json", "taken/parcels/ParcelSent.v1.schema.json"} < set(files)
    ids = [each["$id"] for each in files.values()]
    assert len(set(ids)) == len(files)
    assert files["stored/OrderPlaced.v2.schema.json"]["$id"] == "urn:refold:shop:stored:OrderPlaced.v2.schema.json"
    for file in files.values():
        Draft202012Validator.check_schema(file)
        assert file["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_ids_may_be_addresses() -> None:
    files = dict(schema_documents(CONTRACT, "https://example.com/shop/"))
    assert files["stored/Replied.v1.schema.json"]["$id"] == "https://example.com/shop/stored/Replied.v1.schema.json"


def test_no_name_leads_out_of_the_folder() -> None:
    hostile = [path for path, file in schema_documents(CONTRACT) if file["title"] == "Hostile"]
    assert [str(PurePosixPath(path).parent) for path in hostile] == ["stored", "published"]
    assert all(mark not in "".join(hostile) for mark in "<>\"'& ")
    assert [file_part(name) for name in ("..", ".", "a/../b", "a.b")] == ["%2E%2E", "%2E", "a%2F..%2Fb", "a.b"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_whatever_is_stored_is_valid(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(PUBLISHED))
    event = data.draw(events_of(kind))
    stored = json.loads(Schema([kind], own=False).encode(event).data)
    Draft202012Validator(document_of(kind)).validate(stored)


def test_what_is_wrong_is_not() -> None:
    schema = Draft202012Validator(document_of(PUBLISHED[0]))
    [form] = event_forms(Schema([PUBLISHED[0]], own=False))
    right = example(form.schema)
    schema.validate(right)
    for wrong in (
        {**right, "total": 9.9},
        {**right, "lines": [{"sku": "tea", "quantity": 0}]},
        {**right, "paid_by": {"type": "cheque", "number": "1"}},
        {**right, "colour": "green"},
        {**right, "pair": [1]},
        {name: value for name, value in right.items() if name != "order_id"},
    ):
        with pytest.raises(ValidationError):
            schema.validate(wrong)
    with pytest.raises(ValidationError):
        Draft202012Validator(document_of(PUBLISHED[1])).validate({"order_id": "o-1", "to": {"order_id": 7}})


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_example_is_an_event(kind: type[Event]) -> None:
    [form] = event_forms(Schema([kind], own=False))
    made = example(form.schema)
    Draft202012Validator(document_of(kind)).validate(made)
    assert isinstance(msgspec.json.decode(msgspec.json.encode(made), type=kind), kind)


@pytest.mark.parametrize("app", [make_app(), make_selling("memory:"), App("memory:", events=PUBLISHED[1])])
def test_asyncapi_is_valid_by_its_own_schema(app: App) -> None:
    official = json.loads((packages() / "@asyncapi/specs/schemas/3.0.0.json").read_bytes())
    document = asyncapi(app.contract())
    Draft7Validator(official).validate(document)
    with pytest.raises(ValidationError):
        Draft7Validator(official).validate({**document, "operations": {"x": {"action": "shout"}}})


def test_asyncapi_refers_to_nothing_that_it_does_not_say() -> None:
    document = asyncapi(CONTRACT)
    refs = set(_refs(document))
    assert "#/components/schemas/CloudEvent" in refs
    for ref in refs:
        at: Any = document
        for part in ref.removeprefix("#/").split("/"):
            assert part in at, ref
            at = at[part]


def test_asyncapi_says_what_is_sent_and_what_is_received() -> None:
    document = asyncapi(CONTRACT)
    assert document["operations"]["send.shop"]["action"] == "send"
    assert document["operations"]["receive.parcels"]["action"] == "receive"
    assert document["channels"]["receive.parcels"]["address"] == "parcels"
    message = document["components"]["messages"]["shop.OrderPlaced.v2"]
    assert (message["name"], message["contentType"]) == ("OrderPlaced.v2", "application/cloudevents+json")
    assert document["components"]["correlationIds"]["correlation"]["location"] == "$message.payload#/correlationid"
    assert HOSTILE + ".v1" in {each["name"] for each in document["components"]["messages"].values()}


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_messages_are_what_asyncapi_says(data: st.DataObject) -> None:
    assert CONTRACT.published is not None
    document = asyncapi(CONTRACT)
    kind = data.draw(st.sampled_from(PUBLISHED))
    [form] = event_forms(Schema([kind], own=False))
    stored = json.loads(Schema([kind], own=False).encode(data.draw(events_of(kind))).data)
    payload = {**cloud_event("shop", form), "data": stored}
    fitting = [
        name
        for name, message in document["components"]["messages"].items()
        if Draft7Validator({**message["payload"], "components": document["components"]}).is_valid(payload)
    ]
    assert [document["components"]["messages"][name]["name"] for name in fitting] == [form.id]


def test_asyncapi_says_places_of_an_array_as_draft_7_does() -> None:
    document = asyncapi(CONTRACT)
    assert b"prefixItems" not in msgspec.json.encode(document)
    [form] = event_forms(Schema([PUBLISHED[0]], own=False))
    schema = {**document["components"]["schemas"]["shop.OrderPlaced.v2"], "components": document["components"]}
    right = example(form.schema)
    Draft7Validator(schema).validate(right)
    assert not Draft7Validator(schema).is_valid({**right, "pair": ["one", 2]})
    assert not Draft7Validator(schema).is_valid({**right, "where": ["one"]})


class Corner(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    x: int
    id: UUID = msgspec.field(default_factory=uuid4)


class Drawn(Event):
    corner: Corner
    seats: dict[Annotated[int, msgspec.Meta(ge=3)], str]
    by_letter: dict[Literal["a", "b"], int]


def test_closed_arrays_and_keys_are_said_in_all_of_them() -> None:
    [form] = event_forms(Schema([Drawn], own=False))
    made = example(form.schema)
    assert isinstance(msgspec.json.decode(msgspec.json.encode(made), type=Drawn), Drawn)
    document = asyncapi(told(Drawn, published=[Drawn]))
    schema = {**document["components"]["schemas"]["shop.Drawn.v1"], "components": document["components"]}
    for validator in (Draft202012Validator(document_of(Drawn)), Draft7Validator(schema)):
        validator.validate(made)
        assert not validator.is_valid({**made, "corner": [*made["corner"], 3]})
        assert not validator.is_valid({**made, "by_letter": {"c": 1}})
    rows = {row.path: (row.type, row.required) for row in rows_of(form.schema)}
    assert rows["seats"] == ("dict[int, str]", True)
    assert rows["corner.id"] == ("UUID", False)


def test_its_version_tells_that_something_changed() -> None:
    changed = Contract(CONTRACT.app, CONTRACT.events[1:])
    assert asyncapi(CONTRACT)["info"]["version"] == asyncapi(make_app().contract())["info"]["version"]
    assert asyncapi(CONTRACT)["info"]["version"] != asyncapi(changed)["info"]["version"]


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in _refs(each)]
    return [ref for each in value for ref in _refs(each)] if isinstance(value, list) else []
