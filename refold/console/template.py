"""Templates: HTML in which every value is escaped, and a name that is not given is an error."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refold.contract.graph import short

HERE = Path(__file__).parent
STATIC = HERE / "static"
FILES = {path.relative_to(STATIC).as_posix(): path for path in sorted(STATIC.rglob("*")) if path.is_file()}
"""The static files by the ends of their addresses; no other file is given, whatever is asked for."""
LONGEST = 100_000
"""Characters of a value that a page shows; the API gives it whole."""


def environment() -> Environment:
    """Return what templates are rendered with."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"ago": ago, "stamp": stamp, "number": number, "duration": duration, "pretty": pretty}
    made.filters |= {"short": short, "plain": plain}
    given: dict[str, Any] = {"version": version_of_assets()}
    made.globals.update(given)
    return made


def version_of_assets() -> str:
    """Return a text that changes with any of the static files, so that browsers can keep each for good."""
    digest = sha256()
    for path in FILES.values():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def stamp(moment: datetime) -> str:
    """Return a time in UTC, to the second: 2026-03-01 12:00:00; one that UTC is too short for as it is."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        return moment.isoformat(" ", "seconds")
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def ago(moment: datetime) -> str:
    """Return how long ago a time is, or how long it is until then."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: 40 ms, 12 s, 3 min, 5 h, 2 d."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float) -> str:
    """Return a number as people read it: 1,234 or 0.5."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def pretty(value: Any) -> str:
    """Return a value, or bytes that are JSON, as JSON with a line for each field; bytes that are not as they look."""
    try:
        encoded = value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=str)
        text = msgspec.json.format(encoded, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters"


def plain(encoded: str) -> str:
    """Return a value of an enum, which is JSON, as people read it."""
    return str(msgspec.json.decode(encoded))
