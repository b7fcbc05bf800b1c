"""Which endpoint a request is for: found by how its path begins, so that only a few patterns are tried."""

import re
from collections.abc import Iterable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.routing import compile_path

from refold.http.problem import Refusal

T = TypeVar("T")


class Routes(Generic[T]):
    """Finds what answers a method at a path; of several the first one given."""

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        """Take methods, paths such as `/states/{name}/{key:path}`, whose first part is fixed, and what answers them."""
        self._by_start: dict[str, list[tuple[str, re.Pattern[str], T]]] = {}
        self._known: list[str] = []
        for method, path, answers in routes:
            self._by_start.setdefault(_start(path), []).append((method, compile_path(path)[0], answers))
            self._known.append(f"{method} {path}")

    def find(self, request: Request) -> T:
        """Return what answers a request, which then knows the parts of its path; or refuse."""
        scope = request.scope
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        others: list[str] = []
        for allowed, pattern, answers in self._by_start.get(_start(path), ()):
            if match := pattern.fullmatch(path):
                if allowed == method:
                    scope["path_params"] = match.groupdict()
                    return answers
                others.append(allowed)
        known = f"there is no {scope['method']} {path}; there is {', '.join(sorted(self._known))}"
        if others:
            raise Refusal(405, "NOT_FOUND", known, {"Allow": ", ".join(sorted({*others}))})
        raise Refusal(404, "NOT_FOUND", known)


def _start(path: str) -> str:
    return path[1:].partition("/")[0]
