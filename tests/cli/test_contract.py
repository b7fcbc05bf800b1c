"""`refold contract`: a lock is written, and what breaks others fails, in words for people, GitHub and programs."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli import main

BEFORE = """
from typing import Annotated
from refold import App, Event, Tag

class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    total: int

app = App("memory:", events=OrderPlaced)
"""
HARMLESS = BEFORE.replace("total: int", "total: int\n    note: str = ''")
HARMFUL = BEFORE.replace("total: int", "amount: int\n    weight: int")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / "locked_shop.py"


def refold(*arguments: str, code: int = 0) -> Result:
    sys.modules.pop("locked_shop", None)
    result = CliRunner().invoke(main, ["contract", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_contract_is_locked_and_holds(shop: Path) -> None:
    shop.write_text(BEFORE)
    missing = refold("check", "locked_shop:app", code=2)
    assert "there is no lock contract.lock.json: `refold contract lock` writes one" in missing.output
    assert refold("lock", "locked_shop:app").output == "contract.lock.json is written, with 1 event. Commit it.\n"
    assert refold("check", "locked_shop:app", "--strict").output == "compatible\n"
    assert refold("lock", "locked_shop:app").output == "contract.lock.json says the same as before\n"


def test_a_lock_that_cannot_be_read_is_told_from_an_incompatibility(shop: Path) -> None:
    shop.write_text(BEFORE)
    for content, said in (("{", "is no lock"), ('{"format": 99}', "is a lock of format 99")):
        shop.with_name("contract.lock.json").write_text(content)
        assert said in refold("check", "locked_shop:app", code=2).output


def test_what_is_harmless_passes_and_what_is_new_can_be_asked_to_be_locked(shop: Path) -> None:
    shop.write_text(BEFORE)
    refold("lock", "locked_shop:app")
    shop.write_text(HARMLESS)
    found = refold("check", "locked_shop:app", "--mode", "full")
    assert "~ event OrderPlaced.v1 note is new  [field-added]" in found.output
    assert (
        "compatible; `refold contract lock locked_shop:app --path contract.lock.json` locks what is new" in found.output
    )
    assert (
        "outdated: the lock does not say what the code does"
        in refold("check", "locked_shop:app", "--strict", code=1).output
    )
    assert "~ event OrderPlaced.v1 note is new" in refold("lock", "locked_shop:app").output
    refold("check", "locked_shop:app", "--strict")


def test_what_breaks_others_fails_and_says_what_to_do(shop: Path) -> None:
    shop.write_text(BEFORE)
    refold("lock", "locked_shop:app")
    shop.write_text(HARMFUL)
    output = refold("check", "locked_shop:app", code=1).output
    assert "✗ event OrderPlaced.v1 total is called 'amount' now" in output
    assert "✗ event OrderPlaced.v1 weight is new and has no default  [field-required]" in output
    assert "    events that are stored already are not read as they were meant" in output
    assert "    @stored_as('OrderPlaced', version=2)" in output
    assert output.endswith("incompatible: 2 changes break what is there\n")
    assert "\x1b" not in output


def test_github_is_told_where(shop: Path) -> None:
    shop.write_text(BEFORE)
    refold("lock", "locked_shop:app")
    shop.write_text(HARMFUL)
    lines = refold("check", "locked_shop:app", "--format", "github", code=1).output.splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == 2
    assert errors[0].startswith("::error file=locked_shop.py,line=5,title=event OrderPlaced.v1%3A field-renamed::")
    assert "%0A@stored_as('OrderPlaced', version=1)" in errors[0]


def test_programs_are_told_all(shop: Path) -> None:
    shop.write_text(BEFORE)
    refold("lock", "locked_shop:app")
    shop.write_text(HARMFUL)
    found = json.loads(refold("check", "locked_shop:app", "--format", "json", code=1).output)
    assert (found["compatible"], found["mode"], found["added"]) == (False, "backward", [])
    assert [(each["rule"], each["path"], each["fails"]) for each in found["findings"]] == [
        ("field-renamed", "total", True),
        ("field-required", "weight", True),
    ]


def test_a_contract_is_told_to_people(shop: Path) -> None:
    shop.write_text(BEFORE)
    output = refold("docs", "locked_shop:app", "--to", "site", "--base", "https://example.com/").output
    assert output == "site/index.html is written, and 3 files beside it\n"
    assert "OrderPlaced" in Path("site/index.html").read_text()
    schema = json.loads(Path("site/schemas/stored/OrderPlaced.v1.schema.json").read_text())
    assert schema["$id"] == "https://example.com/stored/OrderPlaced.v1.schema.json"
    assert json.loads(Path("site/asyncapi.json").read_text())["asyncapi"] == "3.0.0"


def test_stubs_are_written_for_those_who_follow(shop: Path) -> None:
    shop.write_text(BEFORE)
    nothing = refold("stubs", "locked_shop:app", "--python", "shop_events.py", code=2)
    assert "locked_shop:app publishes nothing: give its App an `outbox`" in nothing.output
    published = "name='shop', events=OrderPlaced, outbox=[OrderPlaced], bus=MemoryBus()"
    told = BEFORE.replace("events=OrderPlaced", published)
    shop.write_text(f"from refold.bus.memory import MemoryBus\n{told}")
    assert "--python FILE, --typescript FILE, or both" in refold("stubs", "locked_shop:app", code=2).output
    done = refold("stubs", "locked_shop:app", "--python", "shop_events.py", "--typescript", "shop.ts")
    assert done.output == "shop_events.py is written, with 1 event\nshop.ts is written, with 1 event\n"
    assert "class OrderPlaced:" in Path("shop_events.py").read_text()
    assert "export interface OrderPlaced" in Path("shop.ts").read_text()
