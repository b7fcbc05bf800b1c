"""Both type checkers accept `right.py` and find the mistakes in `wrong.py`, where they are expected and only there."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"

EXPECTED = re.compile(r"# expect: error(?: \((?P<only>\w+)\))?")
Lines = set[tuple[str, int]]


def mypy() -> Lines:
    lines = run("mypy", "--strict", "--output=json", RIGHT, WRONG).splitlines()
    found = [json.loads(line) for line in lines]
    return {(Path(each["file"]).name, each["line"]) for each in found if each["severity"] == "error"}


def basedpyright() -> Lines:
    found = json.loads(run("basedpyright", "--outputjson", "--pythonpath", sys.executable, RIGHT, WRONG))[
        "generalDiagnostics"
    ]
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found}


def run(checker: str, *arguments: object) -> str:
    command = [str(Path(sys.executable).with_name(checker)), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("checker", [mypy, basedpyright])
def test_mistakes_are_found_where_they_are(checker: Callable[[], Lines]) -> None:
    expected = {
        (file.name, number)
        for file in (RIGHT, WRONG)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (mark := EXPECTED.search(line)) and mark["only"] in (None, checker.__name__)
    }
    found = checker()
    assert {"missed": sorted(expected - found), "found besides": sorted(found - expected)} == {
        "missed": [],
        "found besides": [],
    }
