"""Log records as lines: of JSON for programs, or of text for people; with the trace that each belongs to.

Refold logs by `logging` and owns nothing of it: a program sets up what it likes. Records bear what they are about as
attributes, `app`, `subscription`, `position`, `correlation_id` and `code`, wherever those apply; `JsonLines` writes
them out, with whatever else a program gives as `extra`.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from refold.errors import hidden
from refold.runtime.telemetry import HAS_OPENTELEMETRY

Form: TypeAlias = Literal["text", "json"]
GIVEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""What every record has; all else was given as `extra`."""


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `message`, what the record is about, `trace_id`, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": cleaned(record.getMessage()),
            **{name: cleaned(value) if isinstance(value, str) else value for name, value in about(record)},
        }
        if record.exc_info and record.exc_info[1] is not None:
            said["error"] = cleaned("".join(traceback.format_exception(record.exc_info[1])))
        return msgspec.json.encode(said, enc_hook=str).decode(errors="replace")


class TextLines(logging.Formatter):
    """A line for people, with what the record is about behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or several if there is a traceback."""
        when = datetime.fromtimestamp(record.created, UTC)
        tail = "".join(f" {name}={value}" for name, value in about(record))
        # A line break in a message could be taken for the next record, and other controls for the terminal's.
        message = _plain(cleaned(f"{record.getMessage()}{tail}"))
        line = f"{when:%Y-%m-%d %H:%M:%S} {record.levelname.lower():8} {record.name}: {message}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + cleaned("".join(traceback.format_exception(record.exc_info[1]))).rstrip()
        return line


def listen(form: Form, level: str) -> None:
    """Write all records from a level on to stderr; for programs that are nobody's library, such as `refold serve`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def about(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """Give what a record is about: what was given as `extra`, and the trace that is under way."""
    for name, value in vars(record).items():
        if name not in GIVEN and value not in ("", None):
            yield name, value if isinstance(value, str | int | float | bool) else str(value)
    if HAS_OPENTELEMETRY:
        from opentelemetry.trace import get_current_span

        found = get_current_span().get_span_context()
        if found.is_valid:
            yield "trace_id", f"{found.trace_id:032x}"
            yield "span_id", f"{found.span_id:016x}"


def cleaned(text: str) -> str:
    """Return a text without passwords and tokens: no record of Refold has any, but those of drivers may."""
    return hidden(text.encode(errors="replace").decode())


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
