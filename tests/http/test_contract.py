"""The log over HTTP keeps the contract of stores, all of it."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from refold import App
from refold.http import Api, Limits
from refold.store.sqlite import SqliteStore
from refold.testing import StoreContract, StoreFixture
from tests.http.serving import served
from tests.http.shop import OrderPlaced
from tests.http.store import HttpStore

ALL = Limits(body=200 << 20, parts=10**6, per_second=1e6, streams=1_000)


async def open_http(path: Path, **options: Any) -> HttpStore:
    """Open a log behind an API; what streams goes over a socket, all else to the API itself."""
    async with AsyncExitStack() as exits:
        store = await SqliteStore.open(path, **options)
        exits.push_async_callback(store.close)
        app = await exits.enter_async_context(App(store, events=OrderPlaced))
        api = Api(app, limits=ALL)
        transport = httpx.ASGITransport(api, client=("127.0.0.1", 1))
        client = await exits.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
        closing = exits.pop_all()
        streaming: list[httpx.AsyncClient] = []

        async def stream() -> httpx.AsyncClient:
            if not streaming:
                streaming.append(await closing.enter_async_context(served(api, lifespan="off")))
            return streaming[0]

        return HttpStore(client, closing.aclose, stream)


class TestLogOverHttp(StoreContract):
    def fixture(self, tmp_path: Path) -> StoreFixture:
        return StoreFixture(partial(open_http, tmp_path / "log.db"), handles=True, reopens=True, clock=True)
