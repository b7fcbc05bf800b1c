"""What the OpenAPI document says is so: whatever one sends, nothing fails, and what comes is what it says."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.serving import served
from tests.http.shop import shop
from tests.http.test_serve import running

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
SECONDS = 20


@pytest.mark.timeout(240)
def test_every_endpoint_is_as_the_document_says(tmp_path: Path) -> None:
    with running(tmp_path) as (client, _):
        for body in ({"sku": "tea", "quantity": 9}, {"sku": "cup", "quantity": 1, "name": "Cup"}):
            client.post("/commands/ReceiveStock", json=body).raise_for_status()
        done = subprocess.run(
            [
                *(SCHEMATHESIS, "run", f"{client.base_url}/openapi.json", "--no-color", "--seed=7"),
                *(f"--checks={','.join(CHECKS)}", "--phases=coverage,fuzzing", "--max-examples=15"),
                # What goes on for ever is below; what breaks is meant to.
                "--exclude-path-regex=/(watch|follow|Break)$",
                *("--suppress-health-check=all", "--warnings=off", f"--max-time={SECONDS}"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 generated" not in done.stdout


NAMES = st.sampled_from(["after", "types", "tags", "query", "where", "available__ge", "sku", "nothing"])
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["0", "-1", "1e99", "99999999999999999999", "9" * 5000, "{}", "[[]]", '{"items": [{"tags": [1]}]}']
    ),
)


async def test_what_goes_on_for_ever_begins_or_is_refused() -> None:
    async with served(shop("memory:")) as client:

        @given(
            path=st.sampled_from(["/log/follow", "/views/Stock/watch"]),
            query=st.dictionaries(NAMES, VALUES, max_size=3),
        )
        @settings(max_examples=60, deadline=None, derandomize=True)
        def asked(path: str, query: dict[str, str]) -> None:
            said.append("&".join(f"{name}={quote(value.encode(errors='replace'))}" for name, value in query.items()))
            paths.append(path)

        said: list[str] = []
        paths: list[str] = []
        asked()
        begun = 0
        for path, query in zip(paths, said, strict=True):
            async with client.stream("GET", f"{path}?{query}") as response:
                assert response.status_code in (200, 400, 409), (path, query)
                kind = "text/event-stream" if response.status_code == 200 else "application/problem+json"
                assert response.headers["content-type"].startswith(kind)
                begun += response.status_code == 200
        assert 0 < begun < len(paths)
