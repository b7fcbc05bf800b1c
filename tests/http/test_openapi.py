"""The OpenAPI document is valid, says all that there is, and is true of the answers."""

from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import compile_path

from examples.shop.main import make_app
from refold.http import views
from refold.http.api import ENDPOINTS
from refold.http.openapi import document
from refold.model.hints import hints
from tests.http.serving import served
from tests.http.shop import shop


@pytest.mark.parametrize("make", [shop, make_app], ids=["small", "the shop"])
def test_the_document_is_valid(make: Any) -> None:
    OpenAPIV31SpecValidator(document(make("memory:"))).validate()


def test_everything_is_in_it() -> None:
    app = shop("memory:")
    paths = document(app)["paths"]
    for command in app.commands:
        assert "post" in paths[f"/commands/{command.__name__}"]
    assert {"/states/Stock/{sku}", "/states/Order/{order_id}", "/views/Stock/rows/{sku}", "/views/Sales/rows"} <= set(
        paths
    )
    kinds = {(method.upper(), path.split("/")[1]) for path, each in paths.items() for method in each}
    told = {(each.method, each.path.split("/")[1]) for each in ENDPOINTS}
    assert told - kinds == {("GET", "openapi.json")}
    names = [each["operationId"] for path in paths.values() for each in path.values()]
    assert len(names) == len(set(names))


def test_each_parameter_that_is_taken_is_in_it_and_no_other() -> None:
    app = shop("memory:")
    patterns = [(each, compile_path(each.path)[0]) for each in ENDPOINTS]
    looking = {"/views/{name}": views.FOUND, "/views/{name}/watch": views.WATCHED}
    for path, methods in document(app)["paths"].items():
        for method, told in methods.items():
            end = next(each for each, found in patterns if each.method == method.upper() and found.match(path))
            fields = (
                hints(next(each for each in app.views if each.__name__ == path.split("/")[2]))
                if (end.path in looking)
                else {}
            )
            names = {each["name"] for each in told["parameters"] if each["in"] == "query"} - {*fields}
            assert names == {*(looking.get(end.path, ()) if end.asks is None else end.asks)}, path


async def test_it_is_served_and_says_what_a_command_takes(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        found = (await client.get("/openapi.json")).json()
    place = found["paths"]["/commands/PlaceOrder"]["post"]
    assert place["description"] == "Asks for so many of a product."
    assert place["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/PlaceOrder"}
    assert found["components"]["schemas"]["PlaceOrder"]["required"] == ["order_id", "sku", "quantity"]
    assert {"401", "403", "409", "429", "507"} <= set(place["responses"])
    assert {each["name"] for each in place["parameters"]} == {
        "Idempotency-Key",
        "Refold-Correlation-Id",
        "Refold-Causation-Id",
        "occurred_at",
    }
    watch = found["paths"]["/views/Stock/watch"]["get"]
    assert {"after", "sku", "where", "Last-Event-ID"} <= {each["name"] for each in watch["parameters"]}
    assert found["paths"]["/health"]["get"]["security"] == []
