"""`refold new`: a small project that runs at once."""

import keyword
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from refold.errors import WiringError

TEMPLATE = Path(__file__).parent / "template"
SUFFIX = ".txt"
"""So that no tool takes what is to be filled in for a program of ours."""
PACKAGE = "package"
HIDDEN = {"gitignore": ".gitignore"}
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
OWN = frozenset({"tests"})
"""What the project has already."""


@click.command()
@click.argument("name")
def new(name: str) -> None:
    r"""Make a small project in a new folder NAME: a shop that runs, with its tests.

    Each concept is a file: events, states and decisions, in that order; `main.py` wires them.

    \b
      refold new shop
      cd shop
      refold serve shop.main:app
    """
    check_name(name)
    paths = make(name, Path.cwd() / name)
    click.echo(f"{name}/ is made, with {len(paths)} files; read {name}/{name}/orders.py first")
    click.echo(next_steps(name))


def check_name(name: str) -> None:
    """Refuse, with `WiringError`, what could not be imported, or would be imported instead of something else."""
    if not NAME.fullmatch(name):
        raise WiringError(
            f"{name!r} cannot name a package: write up to 40 small letters, digits and _, a letter first, as in my_shop"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise WiringError(f"{name!r} is a word of Python; choose another, as in {name}_app")
    if name in sys.stdlib_module_names or name in OWN or _is_installed(name):
        raise WiringError(f"there is a module {name!r} already, which this would hide; choose another, as in my_{name}")


def make(name: str, folder: Path) -> list[Path]:
    """Write the project into a folder that is not there yet; return its files. What fails leaves nothing behind."""
    try:
        folder.mkdir()
    except FileExistsError:
        raise WiringError(f"{folder} is there already, and is left as it is; choose another name") from None
    except OSError as error:
        raise WiringError(f"{folder} cannot be made: {error.strerror}; go to a folder of yours") from None
    try:
        return [_written(source, name, folder) for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}"))]
    except BaseException:
        shutil.rmtree(folder)
        raise


def next_steps(name: str) -> str:
    """Return what to do now, in commands to be copied."""
    missing = [extra for extra, module in (("http", "uvicorn"), ("testing", "pytest")) if find_spec(module) is None]
    install = [f'  pip install "refold[{",".join(missing)}]"'] if missing else []
    return "\n".join(
        [
            *install,
            f"  cd {name}",
            f"  refold serve {name}.main:app",
            "and in another terminal, there:",
            f"""  refold execute {name}.main:app ReceiveStock '{{"sku": "tea", "quantity": 3}}'""",
            f"  refold log tail --store sqlite:///{name}.db",
            "  python -m pytest",
        ]
    )


def _written(source: Path, name: str, folder: Path) -> Path:
    """Write a file of the template, filled in."""
    parts = source.relative_to(TEMPLATE).with_suffix("").parts
    path = folder.joinpath(*(name if part == PACKAGE else HIDDEN.get(part, part) for part in parts))
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(Template(source.read_text(encoding="utf-8")).substitute(name=name))
    return path


def _is_installed(name: str) -> bool:
    """Tell whether a module can be imported; a folder here that is none is not one."""
    found = find_spec(name)
    return found is not None and found.origin is not None
