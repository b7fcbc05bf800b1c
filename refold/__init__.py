"""Refold: record what happened, and refold it into any view, at any time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refold.app import App
    from refold.errors import (
        Conflict,
        InvalidEvent,
        InvalidQuery,
        NotKept,
        RefoldError,
        Rejected,
        StoreError,
        SubscriptionFailed,
        Unavailable,
        UnreadableEvent,
        WaitTimeout,
        WiringError,
    )
    from refold.model.handler import IdempotencyKey, Of, Reader, Unguarded
    from refold.model.message import Command, Event, stored_as
    from refold.model.operated import OperationFailed, OperatorActed
    from refold.model.query import AppendCondition, Query, QueryItem
    from refold.model.record import Metadata, NewEvent, Recorded, StoredEvent
    from refold.model.state import Singleton, State
    from refold.model.tag import Tag
    from refold.model.timer import Cancel, Later, at, cancel, later
    from refold.runtime.effect import effect
    from refold.runtime.inbox import Inbox
    from refold.runtime.look import Change, Found, View
    from refold.runtime.project import kept
    from refold.runtime.tables import Projection, Row, Rows
    from refold.store.open import open_store
    from refold.view.table import Indexed, Searched

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppendCondition",
    "Cancel",
    "Change",
    "Command",
    "Conflict",
    "Event",
    "Found",
    "IdempotencyKey",
    "Inbox",
    "Indexed",
    "InvalidEvent",
    "InvalidQuery",
    "Later",
    "Metadata",
    "NewEvent",
    "NotKept",
    "Of",
    "OperationFailed",
    "OperatorActed",
    "Projection",
    "Query",
    "QueryItem",
    "Reader",
    "Recorded",
    "RefoldError",
    "Rejected",
    "Row",
    "Rows",
    "Searched",
    "Singleton",
    "State",
    "StoreError",
    "StoredEvent",
    "SubscriptionFailed",
    "Tag",
    "Unavailable",
    "Unguarded",
    "UnreadableEvent",
    "View",
    "WaitTimeout",
    "WiringError",
    "at",
    "cancel",
    "effect",
    "kept",
    "later",
    "open_store",
    "stored_as",
]

_HOMES = {
    "App": "refold.app",
    "AppendCondition": "refold.model.query",
    "Cancel": "refold.model.timer",
    "Change": "refold.runtime.look",
    "Command": "refold.model.message",
    "Conflict": "refold.errors",
    "Event": "refold.model.message",
    "Found": "refold.runtime.look",
    "IdempotencyKey": "refold.model.handler",
    "Inbox": "refold.runtime.inbox",
    "Indexed": "refold.view.table",
    "InvalidEvent": "refold.errors",
    "InvalidQuery": "refold.errors",
    "Later": "refold.model.timer",
    "Metadata": "refold.model.record",
    "NewEvent": "refold.model.record",
    "NotKept": "refold.errors",
    "Of": "refold.model.handler",
    "OperationFailed": "refold.model.operated",
    "OperatorActed": "refold.model.operated",
    "Projection": "refold.runtime.tables",
    "Query": "refold.model.query",
    "QueryItem": "refold.model.query",
    "Reader": "refold.model.handler",
    "Recorded": "refold.model.record",
    "RefoldError": "refold.errors",
    "Rejected": "refold.errors",
    "Row": "refold.runtime.tables",
    "Rows": "refold.runtime.tables",
    "Searched": "refold.view.table",
    "Singleton": "refold.model.state",
    "State": "refold.model.state",
    "StoreError": "refold.errors",
    "StoredEvent": "refold.model.record",
    "SubscriptionFailed": "refold.errors",
    "Tag": "refold.model.tag",
    "Unavailable": "refold.errors",
    "Unguarded": "refold.model.handler",
    "UnreadableEvent": "refold.errors",
    "View": "refold.runtime.look",
    "WaitTimeout": "refold.errors",
    "WiringError": "refold.errors",
    "at": "refold.model.timer",
    "cancel": "refold.model.timer",
    "effect": "refold.runtime.effect",
    "kept": "refold.runtime.project",
    "later": "refold.model.timer",
    "open_store": "refold.store.open",
    "stored_as": "refold.model.message",
}
"""Where each name is. It is imported when it is first asked for, so that the command line need not wait for all."""


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
