"""HTML and SVG as values: whatever is not made here is escaped, so that names and docstrings cannot be markup."""

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias
from urllib.parse import quote

VOID = frozenset({"br", "input", "link", "meta"})
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_CODE = re.compile(r"``?([^`\n]+)``?")


class Markup(str):
    """Text that is markup already. Only `element`, `escaped` and `joined` make it, and `trusted` of our own files."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return it as it is, for templates that would escape it."""
        return self


Child: TypeAlias = "str | Markup | Iterable[Child] | None"


def escaped(text: str) -> Markup:
    """Return text as markup that shows it; what neither HTML nor XML can hold is replaced."""
    return text if isinstance(text, Markup) else Markup(escape(_CONTROLS.sub("\ufffd", text)))


def trusted(text: str) -> Markup:
    """Return markup that was written by us."""
    return Markup(text)


def joined(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup("".join(_parts(children)))


def element(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Return an element: `element("a", text, href="#top", class_="quiet", data_node="n1")`."""
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{joined(*children)}</{name}>")


def anchor(kind: str, name: str) -> str:
    """Return the id of what is written about something; two things never have the same."""
    return f"{kind}-{quote(name.encode(errors='replace'), safe='').replace('~', '~7E').replace('%', '~')}"


def prose(text: str) -> Markup:
    """Return a docstring in paragraphs, with its code as such."""
    paragraphs = [each for each in re.split(r"\n\s*\n", text) if each.strip()]
    return joined(element("p", _with_code(each)) for each in paragraphs)


def _with_code(text: str) -> Iterable[Child]:
    for number, part in enumerate(_CODE.split(text)):
        yield element("code", part) if number % 2 else part


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(f"{value}")}"'


def _parts(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, str):
            yield escaped(child)
        elif child is not None:
            yield from _parts(child)
