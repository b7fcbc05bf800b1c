"""The published contract as an AsyncAPI 3.0 document: what this app sends and receives, for other teams' tools.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0. Schemas are those of AsyncAPI itself, which are
JSON Schema draft 7, since no other kind is read by all tools; the files beside it are of 2020-12.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeAlias, cast

from refold.contract.describe import Contract, EventForm
from refold.contract.documents import example
from refold.contract.lock import written
from refold.contract.shape import DEFS, JsonSchema

Document: TypeAlias = dict[str, Any]
CONTENT_TYPE = "application/cloudevents+json"
ENVELOPE: JsonSchema = {
    "title": "CloudEvent",
    "description": "CloudEvents 1.0 in the structured form. Delivered at least once: `id` tells repetitions.",
    "type": "object",
    "required": ["specversion", "id", "source", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "description": "Of the event; the same if it is sent again."},
        "source": {"type": "string", "minLength": 1, "description": "The context that published it."},
        "type": {"type": "string", "minLength": 1, "description": "Its name and version: OrderPlaced.v2."},
        "time": {"type": "string", "format": "date-time", "description": "When it happened."},
        "subject": {"type": "string", "description": "What it is about: a tag, as order:o-1."},
        "datacontenttype": {"type": "string"},
        "partitionkey": {"type": "string", "description": "Events of one key come in their order."},
        "sequence": {"type": "string", "description": "The position in the log of its context."},
        "correlationid": {"type": "string", "description": "The same for all that one request led to."},
        "causationid": {"type": "string", "description": "What led to it directly."},
        "actor": {"type": "string"},
        "data": {},
    },
}
CORRELATION = {
    "description": "The same for all that one request led to.",
    "location": "$message.payload#/correlationid",
}


def asyncapi(contract: Contract) -> Document:
    """Return the document of a contract."""
    published = contract.published
    sent = [(published.topic, published.events)] if published else []
    received = [(each.context, each.events) for each in contract.taken]
    topics = [("send", *each) for each in sent] + [("receive", *each) for each in received]
    parts = _Parts()
    channels: Document = {}
    operations: Document = {}
    for action, topic, forms in topics:
        key = parts.key(f"{action}.{topic}")
        messages = {parts.message(topic, form): form for form in forms}
        refs = {message: {"$ref": f"#/components/messages/{message}"} for message in messages}
        channels[key] = {"address": topic, "description": _said(action, topic, contract.app), "messages": refs}
        operations[key] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": _said(action, topic, contract.app),
            "messages": [{"$ref": f"#/channels/{key}/messages/{message}"} for message in messages],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": contract.app,
            "version": sha256(written(contract)).hexdigest()[:12],  # no number says more than that it changed
            "description": f"What {contract.app} publishes, and what it takes from other contexts.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": parts.messages,
            "schemas": {"CloudEvent": ENVELOPE, **parts.schemas},
            "correlationIds": {"correlation": CORRELATION},
        },
    }


def _said(action: str, topic: str, app: str) -> str:
    return f"{app} publishes these events" if action == "send" else f"{app} follows these events of {topic}"


class _Parts:
    """The components of a document, each under a key that AsyncAPI allows and nothing else has."""

    def __init__(self) -> None:
        self.messages: Document = {}
        self.schemas: Document = {}
        self._keys: dict[str, str] = {"CloudEvent": ""}

    def key(self, name: str) -> str:
        """Return a key for a name."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
        key, number = plain, 2
        while self._keys.setdefault(key, name) != name:
            key, number = f"{plain}-{number}", number + 1
        return key

    def message(self, topic: str, form: EventForm) -> str:
        """Add an event, and return the key of its message."""
        key = self.key(f"{topic}.{form.id}")
        said = {"description": form.doc} if form.doc else {}
        data = self._schema(key, form)
        payload = {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {"type": "object", "properties": {"type": {"const": form.id}, "data": {"$ref": data}}},
            ]
        }
        self.messages[key] = {
            "name": form.id,
            "title": form.name,
            **said,
            "contentType": CONTENT_TYPE,
            "correlationId": {"$ref": "#/components/correlationIds/correlation"},
            "payload": payload,
            "examples": [{"name": "example", "payload": cloud_event(topic, form)}],
        }
        return key

    def _schema(self, key: str, form: EventForm) -> str:
        own: Mapping[str, JsonSchema] = form.schema.get("$defs", {})
        refs = {f"{DEFS}{name}": f"#/components/schemas/{self.key(f'{key}.{name}')}" for name in own}
        for name, schema in own.items():
            self.schemas[self.key(f"{key}.{name}")] = _draft_7(schema, refs)
        whole = {name: value for name, value in form.schema.items() if name != "$defs"}
        self.schemas[key] = _draft_7(
            whole, {**refs, f"{DEFS}{form.schema.get('title')}": f"#/components/schemas/{key}"}
        )
        return f"#/components/schemas/{key}"


def cloud_event(topic: str, form: EventForm) -> Document:
    """Return what a message with this event might be."""
    subject = f"{form.tags[0].tag}:{form.tags[0].tag}-1" if form.tags else ""
    about = {"subject": subject, "partitionkey": subject} if subject else {}
    return {
        "specversion": "1.0",
        "id": "0195a1c2-7b3e-7d44-9f10-2a6c5e8b9d01",
        "source": topic,
        "type": form.id,
        "time": "2026-03-01T12:00:00Z",
        **about,
        "datacontenttype": "application/json",
        "sequence": "42",
        "correlationid": "0195a1c2-7b3e-7d44-9f10-2a6c5e8b9d00",
        "data": example(form.schema),
    }


def _draft_7(schema: JsonSchema, refs: Mapping[str, str]) -> JsonSchema:
    """Say the same in draft 7: places of an array are `items` there."""
    found: JsonSchema = {}
    for name, value in schema.items():
        match name:
            case "$ref":
                found[name] = refs[value]
            case "prefixItems":
                found["items"] = [_draft_7(each, refs) for each in value]
            case "anyOf":
                found[name] = [_draft_7(each, refs) for each in value]
            case "properties":
                found[name] = {key: _draft_7(field, refs) for key, field in value.items()}
            case "items" if value is False:
                found["additionalItems"] = False
            case "items" | "additionalProperties" if isinstance(value, dict):
                found[name] = _draft_7(cast(JsonSchema, value), refs)
            case _:
                found[name] = value
    return found
