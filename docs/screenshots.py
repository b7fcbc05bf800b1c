"""Takes pictures of every page of the console, in both themes, on a desktop and a phone: `python docs/screenshots.py`.

It opens the shop of `make demo` on a copy of its log, lets life go on for a while, and writes docs/console/*.webp.
"""

import asyncio
import os
import shutil
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from playwright.async_api import async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.shop.main import make_demo
from examples.shop.opened import keep_open
from refold.console import Console
from refold.http import Access, Api, Keys
from refold.http.tokens import create

FOLDER = Path(__file__).resolve().parent / "console"
PROGRAM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
QUALITY = 24
SECONDS = 45
PORT = 8765
BESIDE = {
    "form": "commands/PlaceOrder?f.order_id=o-1&f.customer_id=ann&f.items.0.sku=tea&f.items.0.quantity=2",
}
"""Pages that no link of the navigation leads to, under the console's address."""


async def take(store: str) -> None:
    """Open the shop, wait until there is something to see, and take the pictures."""
    opened = asyncio.create_task(keep_open(store, port=PORT, seed=1, seconds=3600))
    closed = Console(Api(make_demo("memory:"), Access(Keys("keys.json"))))  # one that has to be entered
    door = uvicorn.Server(uvicorn.Config(closed, port=PORT + 1, lifespan="off", log_level="critical"))
    entering = asyncio.create_task(door.serve())
    await asyncio.sleep(SECONDS)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        async for name, path in pages(chromium):
            for theme in ("light", "dark"):
                for size, viewport in SIZES.items():
                    context = await chromium.new_context(viewport=viewport, color_scheme=theme)
                    keep(f"{name}-{theme}-{size}", await shoot(context, path))
                    await context.close()
        await chromium.close()
    door.should_exit = True
    opened.cancel()
    await asyncio.gather(opened, entering, return_exceptions=True)


async def pages(chromium: Any) -> AsyncIterator[tuple[str, str]]:
    """Give name and path of each page: those of the navigation, and the first that each of them leads to."""
    page = await chromium.new_page()
    await page.goto(f"http://127.0.0.1:{PORT}/console/")
    links = await page.eval_on_selector_all("nav a", "all => all.map(each => [each.textContent.trim(), each.href])")
    for title, url in [*links[1:], links[0]]:  # the overview when it has something to show
        name = title.lower().replace(" ", "-")
        yield name, url
        await page.goto(url)
        below = await page.eval_on_selector_all(
            "main a", "all => all.map(each => String(each.href.baseVal ?? each.href))"
        )
        inside = [each for each in below if each.startswith(f"{url.rstrip('/')}/") and not each.endswith("/skipped")]
        inner = next(iter(inside), None)
        if inner is not None and name not in ("overview", "stories", "commands", "contract"):
            yield f"{name}-one", inner
    found = await page.request.get(f"http://127.0.0.1:{PORT}/log/events?types=OrderDelivered&backwards=true&limit=1")
    [delivered] = (await found.json())["events"]
    order_id = delivered["data"]["order_id"]
    found = await page.request.get(f"http://127.0.0.1:{PORT}/log/events?types=OrderPlaced&tags=order:{order_id}")
    [placed] = (await found.json())["events"]
    story = {"story": f"stories/Order/{order_id}", "causes": f"causes/{placed['position']}"}
    for name, path in (story | BESIDE | {"search": f"search?text={order_id}"}).items():
        yield name, f"http://127.0.0.1:{PORT}/console/{path}"
    yield "login", f"http://127.0.0.1:{PORT + 1}/console/login"
    await page.close()


async def shoot(context: Any, url: str) -> bytes:
    """Take a picture of what is seen first."""
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_timeout(1200)  # charts draw themselves
    session = await context.new_cdp_session(page)
    taken = await session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return b64decode(taken["data"])


def keep(name: str, picture: bytes) -> None:
    """Write a picture."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.webp").write_bytes(picture)


def main() -> None:
    """Work on a copy, so that the demo's log stays as it is."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "demo.db")
    with TemporaryDirectory() as folder:
        shutil.copy(source, Path(folder) / "demo.db")
        os.chdir(folder)
        create(Path("keys.json"), "ann", "admin")
        asyncio.run(take("sqlite:///demo.db"))


if __name__ == "__main__":
    main()
