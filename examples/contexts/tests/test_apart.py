"""The contexts share no code, only the published contract; and what each has declared of it is what is published."""

import inspect
import subprocess
import sys

import pytest

import examples.billing.shop
import examples.notifications.shop
from examples.shop.contract import PublicCancellation, PublicOrder
from examples.shop.orders import OrderShipped
from refold import Event
from refold.model.message import stored_name

CONTEXTS = ("shop", "billing", "notifications")
PUBLISHED = {stored_name(kind): kind for kind in (PublicOrder, OrderShipped, PublicCancellation)}


@pytest.mark.parametrize("context", CONTEXTS)
def test_no_context_imports_another(context: str) -> None:
    program = f"import sys, examples.{context}.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert f"examples.{context}.main" in loaded
    found = {name.split(".")[1] for name in loaded if name.startswith("examples.")} & {*CONTEXTS, "contexts"}
    assert found == {context}


@pytest.mark.parametrize("theirs", [examples.billing.shop, examples.notifications.shop])
def test_what_is_expected_is_what_is_published(theirs: object) -> None:
    expected = [kind for _, kind in inspect.getmembers(theirs, inspect.isclass) if issubclass(kind, Event)]
    expected = [kind for kind in expected if kind.__module__ == getattr(theirs, "__name__", "")]
    assert len(expected) == 3
    for kind in expected:
        published = PUBLISHED[stored_name(kind)]
        assert set(kind.__struct_fields__) <= set(published.__struct_fields__)
