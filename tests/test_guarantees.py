"""Every guarantee in the docs names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_guarantee_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| G(\d+) \|.*", text := (ROOT / "docs/guarantees.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 21))
    for line in text.splitlines():
        if line.startswith("| G"):
            named = re.findall(r"`([\w/.]+)::(\w+)`", line)
            assert named, line
            for path, test in named:
                assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"
