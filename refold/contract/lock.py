"""The lock: the contract of an app as a file beside its code, made to be read in a pull request."""

from pathlib import Path
from typing import Any

import msgspec

from refold.contract.describe import Contract
from refold.errors import InvalidLock

FORMAT = 1
NAME = "contract.lock.json"


def written(contract: Contract) -> bytes:
    """Return a contract as the text of a lock: one thing a line, in an order that does not change by itself."""
    content = {"format": FORMAT, **msgspec.to_builtins(contract)}
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def write(contract: Contract, path: Path) -> None:
    """Write a lock, in place of the one that is there."""
    path.write_bytes(written(contract))


def read(path: Path) -> Contract:
    """Read a lock, or raise `InvalidLock`."""
    try:
        content: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        number = content.pop("format", None)
        if isinstance(number, int) and number > FORMAT:
            raise InvalidLock(f"{path} is a lock of format {number}, and this Refold knows {FORMAT}: upgrade it")
        return msgspec.convert(content, Contract)
    except FileNotFoundError:
        raise InvalidLock(f"there is no lock {path}: `refold contract lock` writes one") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidLock(f"{path} is no lock: {error}") from None
