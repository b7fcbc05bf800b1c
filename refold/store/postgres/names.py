"""Names as the database holds them: hashed for its indexes, quoted in its arrays."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import cast


@lru_cache(maxsize=16_384)
def key(name: str) -> int:
    """Return the 64-bit hash under which a type or a tag is indexed: it is in stored rows, so it never changes."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def append_key(append_id: str) -> bytes:
    """Return the 128-bit hash of an append id."""
    return blake2b(append_id.encode(), digest_size=16).digest()


def keys(names: Sequence[str]) -> list[int]:
    """Return the distinct hashes of some names."""
    return list(dict.fromkeys(map(key, names)))


def literal(texts: Sequence[str | None]) -> str:
    """Return texts as PostgreSQL writes an array."""
    if not texts:
        return "{}"
    if None in texts:
        return f"{{{','.join('NULL' if text is None else _quoted(text) for text in texts)}}}"
    whole = cast(Sequence[str], texts)
    joined = '","'.join(whole)
    if "\\" in joined or joined.count('"') > 2 * (len(texts) - 1):
        return f"{{{','.join(map(_quoted, whole))}}}"
    return f'{{"{joined}"}}'


def numbers(values: Sequence[int | None]) -> str:
    """Return numbers as PostgreSQL writes an array."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def hexes(values: Iterable[bytes | None]) -> str:
    """Return bytes as PostgreSQL writes an array."""
    return literal([None if value is None else f"\\x{value.hex()}" for value in values])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
