"""Running the three contexts: as three processes with a broker, or, where there is none, all in one process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from examples.contexts.worker import CONTEXTS, Context, Settings, make
from examples.contexts.world import World
from refold import App
from refold.bus.memory import MemoryBus
from refold.testing import NatsServer
from refold.testing.postgres import end_with_parent


class Processes:
    """Each in a process of its own, which is stopped by `kill -9`."""

    what = "Three processes, each with a log of its own, and between them NATS"

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Raise `RuntimeError` if there is no NATS."""
        self._server = NatsServer()
        self._server.command()
        self.settings = replace(settings, bus=self._server.url)
        self._file = folder / "settings.json"
        self._file.write_bytes(msgspec.json.encode(self.settings))
        self._processes: dict[Context, subprocess.Popen[bytes]] = {}

    async def __aenter__(self) -> Self:
        self._server.start()
        await asyncio.gather(*map(self.start, CONTEXTS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for context in list(self._processes):
            await self.stop(context)
        self._server.__exit__(None, None, None)

    async def start(self, context: Context) -> None:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own
            [sys.executable, "-m", "examples.contexts.worker", context, self._file],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent(os.getpid()),
        )
        assert process.stdout is not None
        if not await asyncio.to_thread(process.stdout.readline):
            raise RuntimeError(f"{context} has ended by itself: python -m examples.contexts.worker {context} says why")
        self._processes[context] = process

    async def stop(self, context: Context) -> None:
        process = self._processes.pop(context)
        process.kill()
        process.communicate()

    def where(self, context: Context) -> str:
        """Say in which process."""
        return f"process {self._processes[context].pid}" if context in self._processes else "killed"


class OneProcess:
    """All in this process, with a broker in memory."""

    what = "All three in this process, each with a log of its own, and between them a broker in memory"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._bus = MemoryBus()
        self._world = World(settings.world, trouble=settings.trouble, patience=settings.patience)
        self._apps: dict[Context, App] = {}

    async def __aenter__(self) -> Self:
        for context in CONTEXTS:
            await self.start(context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for context in list(self._apps):
            await self.stop(context)
        self._world.close()

    async def start(self, context: Context) -> None:
        self._apps[context] = await make(context, self.settings, self._bus, self._world).__aenter__()

    async def stop(self, context: Context) -> None:
        await self._apps.pop(context).__aexit__(None, None, None)

    def where(self, context: Context) -> str:
        """Say whether it runs."""
        return "runs" if context in self._apps else "stopped"
