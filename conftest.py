"""Runs the code in the README and the docs: each file from top to bottom, in a folder of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_commands)],
    patterns=["README.md", "docs/*.md"],
    setup=enter,
    teardown=leave,
).pytest()
