"""Refold: record what happened, and refold it into any view, at any time."""

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
