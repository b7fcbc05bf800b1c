"""The command line as a whole: help with examples, JSON, clean streams, and nothing that a terminal would obey."""

import ast
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

import refold
from refold.cli import main
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore
from tests.cli.conftest import Refold

WITHOUT_JSON = {
    "completion": "prints a script",
    "contract docs": "writes files",
    "contract lock": "writes a file",
    "contract stubs": "writes files",
    "key create": "prints a key, and nothing else",
    "key revoke": "has nothing to tell",
    "new": "writes files",
    "run": "goes on until it is stopped",
    "serve": "goes on until it is stopped",
    "store migrate": "has nothing to tell",
}
HOSTILE = ("\x1b[31mred", "\x07bell", "\x9b31m", "\u202eabc", "[red]x[/red]", "a\rb", "\x1b]0;title\x07", "\u2028")


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        assert command.help
        for name, each in command.commands.items():
            yield from walk(each, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(walk(main))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained_by_an_example(name: str) -> None:
    command = COMMANDS[name]
    text = command.help or ""
    assert "\b\n" in text, "examples stand as they are written"
    examples = [line.strip() for line in text.partition("\b\n")[2].splitlines() if line.strip().startswith("refold ")]
    assert any(f"refold {name}" in each for each in examples), "one shows this very command"
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (name not in WITHOUT_JSON), WITHOUT_JSON.get(name, "it prints data")


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_help_is_shown_plain(refold: Refold, name: str) -> None:
    done = refold(*name.split(), "--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    assert "\x1b" not in done.stdout
    assert "\b" not in done.stdout


def test_what_was_perhaps_meant_is_told(refold: Refold) -> None:
    done = refold("sttae")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "state" in done.stderr


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """Return a log in which every place that takes text holds what a terminal would obey."""

    async def fill() -> None:
        log = await SqliteStore.open(tmp_path / "hostile.db")
        for text in HOSTILE:
            data = json.dumps({"order_id": text, "total": 1}).encode()
            metadata = json.dumps({"actor": text, "correlation_id": text}).encode()
            await log.append([NewEvent("OrderPlaced", data, (f"order:{text}",), metadata=metadata)])
            await log.append([NewEvent(text, data, (f"{text}:{text}",), metadata=metadata)])
        await log.close()

    asyncio.run(fill())
    return f"sqlite:///{tmp_path}/hostile.db"


def test_nothing_in_a_log_reaches_the_terminal_as_it_is(refold: Refold, hostile: str) -> None:
    on = ("--store", hostile)
    asked: list[tuple[str, ...]] = [
        ("log", "tail", "-n", "99", *on),
        ("log", "read", *on),
        ("log", "stats", *on),
        ("log", "types", *on),
        *(("log", "show", str(position), *on) for position in (1, 2)),
        *(("log", "read", "--tag", f"order:{text}", *on) for text in HOSTILE),
        *(("state", "shop:make_app", "Order", text, *on) for text in HOSTILE),
        *(("story", "shop:make_app", "Order", text, *on) for text in HOSTILE),
        *(
            ("execute", "shop:make_app", "PlaceOrder", json.dumps({"order_id": f"{t}!", "total": 1}), *on)
            for t in HOSTILE
        ),
        *(("execute", "shop:make_app", text, *on) for text in HOSTILE),
        *(("log", "append", text, "{}", "--tag", f"a:{text}", *on) for text in HOSTILE),
        ("doctor", "shop:make_app", *on),
        ("projection", "list", "shop:make_app", *on),
        ("parked", "list", "shop:make_app", *on),
    ]
    for arguments in asked:
        for form in ((), ("--json",)):
            done = refold(*arguments, *form)
            assert not isinstance(done.exception, Exception), (arguments, done.exception)
            for stream in (done.stdout, done.stderr):
                found = {each for each in stream if each != "\n" and each != "\t" and not each.isprintable()}
                assert not found or form, (arguments, found)
                assert "\x1b" not in stream, arguments


def test_colour_is_for_terminals_and_for_who_wants_it(hostile: str) -> None:
    command = [Path(sys.executable).parent / "refold", "log", "stats", "--store", hostile]
    for extra in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        done = subprocess.run(command, env={**os.environ, **extra}, capture_output=True, check=True)
        assert b"\x1b" not in done.stdout
        assert done.stderr == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(refold: Refold, shell: str) -> None:
    done = refold("completion", shell)
    assert done.exit_code == 0
    assert "_REFOLD_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "incomplete", "wanted"),
    [
        (["execute", "shop:make_app"], "Pl", ["PlaceOrder"]),
        (["state", "shop:make_app"], "", ["Order"]),
        (["projection", "show", "shop:make_app"], "O", ["Order"]),
        (["process", "retry", "billing:app"], "", ["dun", "mail"]),
        (["execute", "nope:app"], "", []),
        (["contract"], "st", ["stubs"]),
    ],
)
def test_names_of_an_app_are_completed(
    refold: Refold, arguments: list[str], incomplete: str, wanted: list[str]
) -> None:
    found: Any = ShellComplete(main, {}, "refold", "_REFOLD_COMPLETE").get_completions(arguments, incomplete)
    assert [each.value for each in found] == wanted


def test_the_command_line_does_not_wait_for_what_it_does_not_need() -> None:
    code = "import sys, refold.cli.main; print(*(n for n in ('asyncio', 'apsw', 'refold.app') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_every_public_name_is_where_it_is_said_to_be() -> None:
    tree = ast.parse(Path(refold.__file__).read_text())
    [typed] = [node for node in tree.body if isinstance(node, ast.If)]
    told = {name.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert told == refold._HOMES
    assert sorted(told) == refold.__all__
    assert all(getattr(refold, name).__name__ for name in told if name != "open_store")
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = refold.Nope


FAR = "9223372036854775808"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("log", "read", "--after", FAR), ""),
        (("log", "show", FAR), f"the log has no event at position {FAR}"),
        (("log", "causes", FAR), f"the log has no event at position {FAR}"),
        (("log", "append", "X", "{}", "--version", "99999999999999999999"), "the limit is 2,147,483,647"),
        (("log", "append", "X\udcff", "{}"), "holds half of a surrogate pair"),
        (("log", "append", "X", "{}", "--id", "\udcff"), "holds half of a surrogate pair"),
        (("log", "append", "X", '{"a": "\udcff"}'), "is no text in UTF-8"),
        (("log", "read", "--tag", "a:\udcff"), "half of a surrogate pair"),
        (("state", "shop:make_app", "Order", "\udcff"), "half of a surrogate pair"),
        (("execute", "shop:make_app", "PlaceOrder", '{"order_id": "\udcff", "total": 1}'), "can't decode byte 0xff"),
        (("execute", "shop:make_app", "PlaceOrder", '{"order_id": "o", "total": 1}', "--id", "\udcff"), "surrogates"),
    ],
)
def test_numbers_and_bytes_that_no_log_holds_are_told(
    refold: Refold, store: str, asked: tuple[str, ...], said: str
) -> None:
    done = refold(*asked, env={"REFOLD_STORE": store})
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert (done.exit_code == 0) == (not said)
    assert said in done.stderr
    assert done.stdout == ""
