"""Finding what answers a request."""

from typing import Any

import pytest
from starlette.requests import Request

from refold.http.problem import Refusal
from refold.http.routes import Routes

ROUTES = Routes(
    [
        ("GET", "/log/events", "read"),
        ("POST", "/log/events", "append"),
        ("GET", "/log/appends/{id:path}", "appended"),
        ("GET", "/views/{name}/rows", "only row"),
        ("GET", "/views/{name}/rows/{key:path}", "row"),
        ("GET", "/health", "health"),
    ]
)


def asked(method: str, path: str, root: str = "") -> Request:
    return Request({"type": "http", "method": method, "path": root + path, "root_path": root, "headers": []})


@pytest.mark.parametrize(
    ("method", "path", "answers", "parts"),
    [
        ("GET", "/log/events", "read", {}),
        ("POST", "/log/events", "append", {}),
        ("HEAD", "/log/events", "read", {}),
        ("GET", "/log/appends/a/b", "appended", {"id": "a/b"}),
        ("GET", "/views/Stock/rows", "only row", {"name": "Stock"}),
        ("GET", "/views/Stock/rows/tea", "row", {"name": "Stock", "key": "tea"}),
        ("GET", "/views/log/rows/views", "row", {"name": "log", "key": "views"}),
    ],
)
@pytest.mark.parametrize("root", ["", "/shop", "/log"])
def test_a_request_finds_its_answer(method: str, path: str, answers: str, parts: Any, root: str) -> None:
    request = asked(method, path, root)
    assert ROUTES.find(request) == answers
    assert request.path_params == parts


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("DELETE", "/log/events", 405, {"Allow": "GET, POST"}),
        ("POST", "/health", 405, {"Allow": "GET"}),
        ("GET", "/health/", 404, {}),
        ("GET", "/log", 404, {}),
        ("GET", "/log/events/1", 404, {}),
        ("GET", "", 404, {}),
        ("GET", "//health", 404, {}),
        ("GET", "/log/events\n", 404, {}),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(method: str, path: str, status: int, allowed: Any) -> None:
    with pytest.raises(Refusal, match="there is GET /health, GET /log/appends") as refused:
        ROUTES.find(asked(method, path))
    assert (refused.value.status, refused.value.headers) == (status, allowed)
