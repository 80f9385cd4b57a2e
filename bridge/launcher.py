"""`ari-bridge run`: media process and workers for one terminal or container.

A thin stand-in for a service manager: starts each process, starts it again with backoff when it
dies, and stops them in turn (the worker first, so that it can end its calls while audio still
flows). A process that ends with `EXIT_CONFIG` found something that only the operator can mend: at
the start everything stops with that status; later, that process is tried again like any other,
because the others serve calls. So is one that dies before it has served, ever more slowly.

A launcher that was killed leaves its processes serving. The next one starts its own beside them,
and they make room for those (`bridge.keeper`): no caller notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridge import keeper

log = logging.getLogger(__name__)

EXIT_CONFIG = 2
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_HEIRS_FIRST_S = 1.0  # while others take its calls over, loading would take the processor from them
_STEADY_S = 10.0  # a process that lived this long starts again at once
_STOP_S = {
    "worker": 8.0,
    "web": 2.5,
    "recorder": 6.0,
    "relay": 1.5,
    "media": 1.5,
}  # what each may need, whatever is away, besides `drain_s`
_MEDIA = _RELAYS = 2  # one serves, one stands by


@dataclass
class _Child:
    name: str
    options: tuple[str, ...] = ()
    first_wait_s: float = _FIRST_WAIT_S
    process: asyncio.subprocess.Process | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self, config: Path | None) -> int:
        """Run the process again and again, until told to stop or until it can't work at all."""
        arguments = ["--config", str(config)] if config else []
        wait_s, steady = self.first_wait_s, False
        while not self.stopped.is_set():
            began = time.monotonic()
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", self.name, *self.options, *arguments),
                process_group=0,  # Ctrl-C at the terminal reaches us alone: we stop them in turn
                env={**os.environ, keeper.LAUNCHER: str(os.getpid())},
            )
            status = await self.process.wait()
            if self.stopped.is_set() or (status == EXIT_CONFIG and not steady):
                return status
            if time.monotonic() - began > _STEADY_S:
                wait_s, steady = self.first_wait_s, True
            log.error("the %s process ended (%s); again in %.1f s", self.name, status, wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        return 0

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, keeping: asyncio.Task[int], within_s: float) -> None:
        """SIGINT (everything of this host stops), then SIGKILL."""
        self.stopped.set()
        for send in (signal.SIGINT, signal.SIGKILL):
            self.tell(send)
            done, _ = await asyncio.wait({keeping}, timeout=within_s)
            if done:
                return
            log.error("the %s process did not stop within %.1f s", self.name, within_s)


async def run(
    config: Path | None,
    runtime_dir: Path,
    workers: int = 1,
    spares: int = 0,
    drain_s: Callable[[], float] = lambda: 0.0,
    *,
    web: bool = False,
    relay: bool = False,
) -> int:
    """Run until SIGINT, SIGTERM or the terminal's end. Returns the exit status.

    Args:
        config: the configuration file.
        runtime_dir: what the processes share; one launcher serves it.
        workers: how many take calls.
        spares: how many more wait, loaded, for one of those to die.
        drain_s: how long workers that are to stop may let their calls go on.
        web: whether the API is served, too.
        relay: whether audio comes by WebSocket.

    Raises:
        ConfigError: another launcher serves the directory.
    """
    lock = keeper.take(runtime_dir)
    active = ("--active", str(workers))
    wait_s = _HEIRS_FIRST_S if workers + spares > 1 else _FIRST_WAIT_S
    children = [_Child("worker", active, wait_s) for _ in range(workers + spares)]
    children += [_Child("media", ("--standby",)) for _ in range(_MEDIA)]
    children.append(_Child("recorder"))
    children += [_Child("web")] if web else []
    children += [_Child("relay") for _ in range(_RELAYS)] if relay else []
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)

    def hang_up() -> None:
        if keeper.has_terminal():  # which has ended
            asked.set()
            return
        for child in children:
            if child.name != "media":
                child.tell(signal.SIGHUP)

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    keepers = [asyncio.create_task(child.keep(config)) for child in children]
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({waiting, *keepers}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    kinds = {child.name for child in children}
    for kind in sorted(kinds, reverse=True):  # workers first, while audio still flows
        within_s = _STOP_S[kind] + (drain_s() if kind == "worker" else 0.0)
        some = [(c, k) for c, k in zip(children, keepers, strict=True) if c.name == kind]
        await asyncio.gather(*(child.stop(keeping, within_s) for child, keeping in some))
    os.close(lock)
    return max(EXIT_CONFIG * (k.result() == EXIT_CONFIG) for k in keepers)
