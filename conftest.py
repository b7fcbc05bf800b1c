"""Runs the code in the README and the docs: each file from top to bottom, in a folder of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sybil import Sybil
from sybil.example import Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

HOME = Path.cwd()


def run_commands(example: Example) -> None:
    """Run the lines of a console block that begin with `$`; each must succeed."""
    for line in example.parsed.splitlines():
        if line.startswith("$ "):
            command, *arguments = shlex.split(line[2:])
            if command == "cd":
                os.chdir(arguments[0])
                continue
            program = Path(sys.executable).parent / command
            done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert done.stdout, f"{line} shows nothing"


def enter(namespace: dict[str, Any]) -> None:
    """Go to a new folder; what runs there is a script."""
    namespace["__name__"] = "__main__"
    namespace["_folder"] = folder = TemporaryDirectory()
    os.chdir(folder.name)


def leave(namespace: dict[str, Any]) -> None:
    """Go back, and leave nothing behind."""
    os.chdir(HOME)
    namespace["_folder"].cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests among processes one by one, but for those that belong together."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if ".md::" in nodeid:  # the blocks of a page go on where those before have ended
                return nodeid.partition("::")[0]
            return nodeid.rpartition("::")[0] if "/test_buses.py::" in nodeid else nodeid  # which share a broker

    return Sharing(config, log)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_commands)],
    patterns=["README.md", "docs/*.md"],
    setup=enter,
    teardown=leave,
).pytest()
