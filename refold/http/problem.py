"""Errors over HTTP: each is a problem document (RFC 9457), with the same stable code as in Python.

{"type": "urn:refold:problem:CONFLICT", "title": "…", "status": 409, "detail": "…", "code": "CONFLICT"}
"""

import inspect
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from refold.errors import (
    AppendIdReused,
    Conflict,
    InvalidBody,
    InvalidEvent,
    InvalidQuery,
    NotKept,
    PositionAhead,
    RefoldError,
    Rejected,
    StoreBusy,
    StoreError,
    StoreFull,
    SubscriptionFailed,
    TooLarge,
    Unavailable,
    WaitTimeout,
)
from refold.runtime.telemetry import code_of

MEDIA_TYPE = "application/problem+json"
STATUS: Mapping[type[RefoldError], int] = {
    Rejected: 409,
    Conflict: 409,
    AppendIdReused: 409,
    PositionAhead: 409,
    InvalidQuery: 400,
    InvalidBody: 400,
    InvalidEvent: 400,
    TooLarge: 413,
    NotKept: 503,
    SubscriptionFailed: 503,
    Unavailable: 503,
    StoreBusy: 503,
    StoreFull: 507,
    StoreError: 503,
    WaitTimeout: 504,
}
"""Of an error of a class that is not here the class above it decides; of all others nobody outside is to blame: 500."""
AGAIN = (StoreBusy, Unavailable, NotKept, WaitTimeout)
"""What may pass by itself."""
RETRY_SECONDS = 1
GONE = 499
"""The status under which requests are counted whose client left amid them, as nginx has it."""

logger = logging.getLogger("refold.http")


class Refusal(Exception):
    """A request that is answered with a problem, although nothing has failed."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any):
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.more = more


class Problem(Struct, frozen=True):
    """What went wrong, as those outside are told."""

    status: int
    code: str
    title: str
    detail: str
    more: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}


def problem_of(error: Exception) -> Problem:
    """Return what is told of a request that failed; what is nobody's business outside is logged, and not told."""
    match error:
        case ClientDisconnect():  # nobody is there to be told, and nothing has failed
            return Problem(GONE, "CLIENT_GONE", "Client Closed Request", "Who asked left before all of it had come.")
        case Refusal():
            title = HTTPStatus(error.status).phrase
            return Problem(error.status, error.code, title, error.detail, error.more, error.headers)
        case StoreError() if status := _status_of(type(error)):  # which names files and hosts
            logger.warning("a request failed for the log or the views: %s", error, extra={"code": error.code})
            headers = {"Retry-After": str(RETRY_SECONDS)} if isinstance(error, AGAIN) else {}
            detail = f"{_title(error)} The log of the server says more."
            return Problem(status, error.code, _title(error), detail, headers=headers)
        case RefoldError() if status := _status_of(type(error)):
            more = dict(error.data)
            if isinstance(error, Rejected):
                more["reason"] = type(error).__name__
            headers = {"Retry-After": str(RETRY_SECONDS)} if isinstance(error, AGAIN) else {}
            return Problem(status, error.code, _title(error), str(error), more, headers)
        case _:
            logger.error("a request failed", exc_info=error, extra={"code": code_of(error)})
            detail = "The request failed; the log of the server says why."
            return Problem(500, "INTERNAL", HTTPStatus(500).phrase, detail)


def response_to(error: Exception) -> Response:
    """Return the answer to a request that failed."""
    told = problem_of(error)
    return Response(encoded(told), told.status, headers=dict(told.headers), media_type=MEDIA_TYPE)


def encoded(told: Problem) -> bytes:
    """Return a problem as a JSON document."""
    fields = {"title": told.title, "status": told.status, "detail": told.detail, "code": told.code}
    problem = {**told.more, "type": f"urn:refold:problem:{told.code}", **fields}
    return msgspec.json.encode(problem, enc_hook=str)


def _status_of(kind: type[RefoldError]) -> int | None:
    return next((STATUS[base] for base in kind.__mro__ if base in STATUS), None)


def _title(error: RefoldError) -> str:
    return (inspect.getdoc(type(error)) or type(error).__name__).split("\n\n")[0]
