"""The peers, each the fastest way that its Python API offers: UmaDB in a server beside us, eventsourcing on SQLite."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from bench.orders import EVENTS_OF_ORDER, NOTE, Placed, customer_of, events
from refold import NewEvent

try:
    import umadb
except ImportError:
    umadb = None
try:
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event
    from eventsourcing.projection import Projection, ProjectionRunner
    from eventsourcing.sqlite import SQLiteTrackingRecorder
except ImportError:
    Application = None

SERVE = "import sys, umadb; umadb.run_server_from_args(sys.argv)"
START_SECONDS = 10


class Uma:
    """A client of a UmaDB server."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def event(self, new: NewEvent) -> Any:
        """Make a UmaDB event of one of ours."""
        return umadb.Event(event_type=new.type, data=new.data, tags=list(new.tags))

    def query(self, *tags: str) -> Any:
        """Ask for events that have all tags."""
        return umadb.Query([umadb.QueryItem(tags=list(tags))])

    def unless(self, query: Any, after: int | None) -> Any:
        """Make an append condition."""
        return umadb.AppendCondition(query, after)

    def read(self, query: Any) -> list[Any]:
        """Read matching events."""
        return self.client.read(query).collect_with_head()[0]

    def read_all(self) -> int:
        """Read every event, and return how many there are."""
        response = self.client.read()
        count = 0
        while batch := response.next_batch():
            count += len(batch)
        return count


@contextmanager
def uma(folder: Path) -> Iterator[Uma | None]:
    """Run a UmaDB server on loopback with its data in a folder; None if it is not installed."""
    if umadb is None:
        yield None
        return
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", SERVE, "--listen", address, "--db-path", str(folder / "uma.db")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Uma(_connected(f"http://{address}"))
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(5)
        server.kill()


def _connected(url: str) -> Any:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            client = umadb.Client(url)
            client.head()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return client


def in_threads(threads: int, work: Callable[[int], object]) -> float:
    """Call `work(0)`, `work(1)` and so on, each in a thread of its own; return the seconds until all are done."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: time.sleep(0.005), range(threads)))  # start them
        start = time.perf_counter()
        list(pool.map(work, range(threads)))
        return time.perf_counter() - start


if Application is not None:

    class Order(Aggregate):
        """The same order as an aggregate of eventsourcing."""

        @event("Placed")
        def __init__(self, number: int, customer_id: str, address: str) -> None:
            self.number = number
            self.customer_id = customer_id
            self.lines = 0
            self.total = 0
            self.last_sku = ""

        @staticmethod
        def create_id(number: int) -> UUID:
            """Derive the id from the number."""
            return uuid5(NAMESPACE_OID, str(number))

        @event("Added")
        def add(self, sku: str, quantity: int, price: int, note: str) -> None:
            """Add a line."""
            self.lines += 1
            self.total += quantity * price
            self.last_sku = sku

    class OrderRows(SQLiteTrackingRecorder):
        """Rows of orders, each written in one transaction with how far they have come."""

        def construct_create_table_statements(self) -> list[str]:
            """Add the table of the rows."""
            return [
                *super().construct_create_table_statements(),
                "CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, customer_id TEXT, lines INTEGER, "
                "total INTEGER, last_sku TEXT)",
            ]

        def put(self, row: tuple[Any, ...], tracking: Any) -> None:
            """Write a row."""
            with self.datastore.transaction(commit=True) as cursor:
                self._insert_tracking(cursor, tracking)
                cursor.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?)", row)

    class Orders(Projection[OrderRows]):
        """The same rows as our projection keeps; those that were changed are remembered."""

        name = "orders"

        def __init__(self, view: OrderRows) -> None:
            super().__init__(view)
            self.rows: dict[str, tuple[Any, ...]] = {}

        def process_event(self, domain_event: Any, tracking: Any) -> None:
            """Fold an event."""
            key = str(domain_event.originator_id)
            if type(domain_event).__qualname__ == "Order.Placed":
                row = (key, domain_event.customer_id, 0, 0, "")
            else:
                _, customer, lines, total, _ = self.rows[key]
                added = domain_event.quantity * domain_event.price
                row = (key, customer, lines + 1, total + added, domain_event.sku)
            self.rows[key] = row
            self.view.put(row, tracking)

    class Filled(Application):
        """An application in memory, since none on SQLite can be subscribed to, that has its orders from the start."""

        orders = 0

        def __init__(self, env: Any = None) -> None:
            super().__init__(env)
            for number in range(1, self.orders + 1):
                found = list(events(number))
                placed = found[0]
                assert isinstance(placed, Placed)
                order = Order(number, customer_of(number), placed.address)
                for added in found[1:]:
                    order.add(added.sku, added.quantity, added.price, added.note)
                self.save(order)
            self.ready_at = time.perf_counter()


def project(views: Path, orders: int) -> float:
    """Run the projection over so many orders of five events; return how many events a second."""
    env = {
        "PERSISTENCE_MODULE": "eventsourcing.popo",
        "ORDERS_PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "ORDERS_SQLITE_DBNAME": str(views),
    }
    Filled.orders = orders
    with ProjectionRunner(application_class=Filled, projection_class=Orders, view_class=OrderRows, env=env) as runner:
        runner.wait(orders * EVENTS_OF_ORDER, timeout=120)
        return orders * EVENTS_OF_ORDER / (time.perf_counter() - runner.app.ready_at)


class Eventsourcing:
    """An application of eventsourcing on a SQLite file."""

    def __init__(self, path: Path, *, cached: bool = False, threads: int = 1) -> None:
        env = {
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(path),
            "SQLITE_POOL_SIZE": str(threads),
            "SQLITE_POOL_TIMEOUT": "60",
            "SQLITE_LOCK_TIMEOUT": "60",
        }
        if cached:
            env["AGGREGATE_CACHE_MAXSIZE"] = "100000"
        self.app: Any = Application(env=env)

    def fill(self, orders: int) -> None:
        """Save orders of five events, many in one transaction."""
        batch: list[Any] = []
        for number in range(1, orders + 1):
            found = list(events(number))
            placed = found[0]
            assert isinstance(placed, Placed)
            order = Order(number, customer_of(number), placed.address)
            for added in found[1:]:
                order.add(added.sku, added.quantity, added.price, added.note)
            batch.append(order)
            if len(batch) == 200 or number == orders:
                self.app.save(*batch)
                batch = []

    def add(self, number: int) -> None:
        """Load an order, add to it, and save it."""
        order = self.app.repository.get(Order.create_id(number))
        order.add("sku-0001", 1, 100, NOTE)
        self.app.save(order)

    def replay(self, page: int = 1_000) -> int:
        """Decode and fold the whole log, in its order; return how many events there are."""
        orders: dict[Any, Any] = {}
        start = count = 0
        while notifications := self.app.recorder.select_notifications(start + 1, page):
            for notification in notifications:
                recorded = self.app.mapper.to_domain_event(notification)
                orders[recorded.originator_id] = recorded.mutate(orders.get(recorded.originator_id))
            start = notifications[-1].id
            count += len(notifications)
        return count

    def close(self) -> None:
        """Let go of the file."""
        self.app.close()


@contextmanager
def eventsourcing(path: Path, **options: Any) -> Iterator[Eventsourcing | None]:
    """Open an application of eventsourcing on a file; None if it is not installed."""
    if Application is None:
        yield None
        return
    peer = Eventsourcing(path, **options)
    try:
        yield peer
    finally:
        peer.close()
