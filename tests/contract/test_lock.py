"""A lock is a contract as a file: it comes back as it was, and says clearly what it is not."""

from pathlib import Path

import msgspec
import pytest

from examples.shop.main import make_app
from refold.contract.compare import compare
from refold.contract.lock import FORMAT, read, write, written
from refold.errors import InvalidLock
from tests.contract import test_describe
from tests.contract.making import placed, told


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    for contract in (test_describe.make_app().contract(), make_app("memory:").contract()):
        path = tmp_path / "contract.lock.json"
        write(contract, path)
        assert read(path) == contract
        assert compare(read(path), contract) == []
        assert path.read_bytes() == written(read(path))


def test_it_is_made_to_be_read(tmp_path: Path) -> None:
    before, after = written(told(placed())), written(told(placed(("total", int, 0))))
    assert before.startswith(b'{\n  "format": 1,\n  "app": "shop",\n')
    assert max(map(len, before.splitlines())) < 100
    new = set(after.splitlines()) - set(before.splitlines())
    assert {b'        "total": {', b'          "default": 0'} <= {line.removeprefix(b"  ") for line in new}


def test_one_that_is_missing_damaged_or_newer_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "contract.lock.json"
    with pytest.raises(InvalidLock, match="`refold contract lock` writes one"):
        read(path)
    newer = {"format": FORMAT + 1, "else": []}
    for content, said in (
        (b"\xff", "is no lock"),
        (b"[]", "is no lock"),
        (b'{"format": 1}', "is no lock: Object missing required field `app`"),
        (msgspec.json.encode(newer), f"format {FORMAT + 1}, and this Refold knows {FORMAT}: upgrade it"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidLock, match=said):
            read(path)
