"""Three contexts at the command line, one of which is killed and catches up: `python -m examples.contexts`."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from msgspec import Struct
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from examples.contexts.agree import CANCELED, PLACED, SHIPPED, Stories, disagreements, of_billing, of_mails, of_shop
from examples.contexts.customers import buy, fill, wishes
from examples.contexts.running import OneProcess, Processes
from examples.contexts.worker import CONTEXTS, Context, Settings, make
from examples.contexts.world import World
from examples.terminal import console, made
from refold import App, WiringError

LOOK_SECONDS = 0.5
SETTLE_SECONDS = 120


@click.command()
@click.option("--orders", default=200, show_default=True, type=click.IntRange(min=10))
@click.option("--rate", default=20.0, show_default=True, help="Orders a second.", type=click.FloatRange(1, 500))
@click.option("--away", type=click.Choice(CONTEXTS), default="billing", show_default=True, help="Which one is killed.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the logs are kept; thrown away if not said.")
@click.option("--seed", default=1, show_default=True)
@click.option("--one-process", is_flag=True, help="Without a broker.")
def main(orders: int, rate: float, away: Context, folder: Path | None, seed: int, one_process: bool) -> None:
    """Sell, invoice and write mails in three contexts; kill one for a while, and see it catch up."""
    with TemporaryDirectory(prefix="refold-contexts-") as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise click.ClickException(f"{place} is not empty: name a folder that is, or none")
        stores: dict[Context, str] = {name: f"sqlite:///{place.absolute()}/{name}.db" for name in CONTEXTS}
        settings = Settings(stores=stores, bus="", world=f"{place}/world.db")
        running = running_of(settings, place, one_process=one_process)
        console.print(f"{running.what}.\nWho takes the money and delivers the mail fails one time in ten.\n")
        try:
            agreed = asyncio.run(Show(running, orders, rate, away, seed).run())
        except KeyboardInterrupt:
            raise click.ClickException("interrupted") from None
        if folder is not None:
            console.print(f"\nThe logs are there to look into: refold log tail --store {stores['billing']}")
        if not agreed:
            raise SystemExit(1)


def running_of(settings: Settings, folder: Path, *, one_process: bool) -> Processes | OneProcess:
    """Return what there is a broker for."""
    if not one_process:
        try:
            return Processes(settings, folder)
        except (RuntimeError, WiringError) as error:
            console.print(f"{error}. So all run in one process.")
    return OneProcess(settings)


class Seen(Struct, frozen=True):
    """What a context knows, at a moment."""

    told: str
    behind: int
    parked: int


class Show:
    """One run, and what is to be seen of it."""

    def __init__(self, running: Processes | OneProcess, orders: int, rate: float, away: Context, seed: int) -> None:
        self._running = running
        self._orders = orders
        self._rate = rate
        self._away: Context = away
        self._seed = seed
        self._apps: dict[Context, App] = {}
        self._world = World(running.settings.world)
        self._said: list[Text] = []
        self._begun = time.monotonic()

    async def run(self) -> bool:
        """Sell, and show it; return whether all agree in the end."""
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(self._running)
            for name in CONTEXTS:
                app = make(name, self._running.settings, "nats://unused", self._world).passive()
                self._apps[name] = await exits.enter_async_context(app)
            await fill(self._apps["shop"])
            self._begun = time.monotonic()
            selling = asyncio.create_task(self._sell())
            found = await self._watch(selling)
            console.print()
            console.print(await self._summary(found))
        self._world.close()
        return not found

    async def _sell(self) -> None:
        within = timedelta(seconds=self._running.settings.pay_within)
        async with asyncio.TaskGroup() as buying:
            for number, wish in enumerate(wishes(self._orders, self._seed)):
                if number == self._orders // 4:
                    await self._running.stop(self._away)
                    self._say(f"{self._away} is {self._running.where(self._away)}; the others go on", "red")
                if number == self._orders * 3 // 4:
                    await self._running.start(self._away)
                    self._say(f"{self._away} is started again, and catches up", "green")
                buying.create_task(buy(self._apps["shop"], self._world, wish, within))
                await asyncio.sleep(1 / self._rate)
            self._say(f"{self._orders:,} orders are placed")

    async def _watch(self, selling: "asyncio.Task[None]") -> list[str]:
        """Show how all stand, until they agree or it has taken too long; return what does not agree."""
        found: list[str] = []
        live = Live(console=console, auto_refresh=False, vertical_overflow="visible") if console.is_terminal else None
        if live is not None:
            live.start()
        try:
            end, lines = time.monotonic() + self._orders / self._rate + SETTLE_SECONDS, 0
            while time.monotonic() < end:
                seen = await self._look()
                if live is not None:
                    live.update(self._screen(seen), refresh=True)
                elif lines % 2 == 0:
                    self._print(seen)
                lines += 1
                if selling.done():
                    selling.result()
                    found = await self._disagreements()
                    if not found and not any(each.behind or each.parked for each in seen.values()):
                        break
                await asyncio.sleep(LOOK_SECONDS)
            return found
        finally:
            selling.cancel()
            if live is not None:
                live.stop()

    async def _look(self) -> dict[Context, Seen]:
        truth, _ = await of_shop(self._apps["shop"])
        billed = await of_billing(self._apps["billing"])
        requested, sent = await of_mails(self._apps["notifications"])
        orders, accounts = Counter(told[-1] for told in truth.values()), Counter(told[-1] for told in billed.values())
        written, gone = sum(map(len, requested.values())), sum(map(len, sent.values()))
        told = {
            "shop": f"{orders[PLACED]:,} open, {orders[SHIPPED]:,} shipped, {orders[CANCELED]:,} canceled",
            "billing": f"{accounts[PLACED]:,} open, {accounts[SHIPPED]:,} invoiced, {accounts[CANCELED]:,} written off",
            "notifications": f"{written:,} mails requested, {gone:,} sent",
        }
        behind = {"shop": 0, "billing": missing(truth, billed), "notifications": missing(truth, requested)}
        return {
            name: Seen(told[name], behind[name], len(await self._apps[name].operations.parked())) for name in CONTEXTS
        }

    async def _disagreements(self) -> list[str]:
        shop, billing, notifications = (self._apps[name] for name in CONTEXTS)
        return await disagreements(shop, billing, notifications, self._world.done())

    def _say(self, text: str, style: str = "") -> None:
        line = Text(f"{time.monotonic() - self._begun:5.1f} s  {text}", style=style)
        self._said.append(line)
        if not console.is_terminal:
            console.print(line)

    def _screen(self, seen: dict[Context, Seen]) -> RenderableType:
        table = made("", "context", "", "what it knows of the orders", "-behind", "-parked")
        for name, each in seen.items():
            where = Text(self._running.where(name))
            where.stylize("red" if where.plain in ("killed", "stopped") else "green")
            behind = Text(f"{each.behind:,}", style="yellow" if each.behind else "")
            table.add_row(name, where, each.told, behind, f"{each.parked:,}")
        return Group(table, *self._said)

    def _print(self, seen: dict[Context, Seen]) -> None:
        told = [f"{name} {each.told}{f' ({each.behind:,} behind)' * (each.behind > 0)}" for name, each in seen.items()]
        console.print(f"{time.monotonic() - self._begun:5.1f} s  " + "; ".join(told), soft_wrap=True)

    async def _summary(self, found: Sequence[str]) -> RenderableType:
        if found:
            lines = [*found[:10], f"… {len(found) - 10} more"] if len(found) > 10 else found
            return Text("\n".join([f"They do not agree after {SETTLE_SECONDS} s:", *lines]), style="red")
        truth, _ = await of_shop(self._apps["shop"])
        done = self._world.done()
        table = made("All agree on each order", "in the shop", "-orders", "in billing", "in notifications")
        ends = Counter(tuple(told) for told in truth.values())
        table.add_row("shipped", f"{ends[PLACED, SHIPPED]:,}", "invoiced once", "thanked, announced")
        table.add_row("canceled", f"{ends[PLACED, CANCELED]:,}", "closed, no invoice", "thanked, regretted")
        table.add_row(
            "shipped, then canceled", f"{ends[PLACED, SHIPPED, CANCELED]:,}", "invoiced, credited", "all three"
        )
        kinds = Counter(each.kind for each in done)
        table.caption = (
            f"{kinds['mail']:,} mails were delivered, each once; {kinds['refund']:,} payments were given back.\n"
            f"It took {sum(each.calls for each in done):,} requests for {len(done):,} things; each was done once."
        )
        return table


def missing(truth: Stories, told: Stories) -> int:
    """Return how many of the shop's events a context has not let in."""
    return sum(len(story) - len(told.get(order_id, [])) for order_id, story in truth.items())


if __name__ == "__main__":
    main()
