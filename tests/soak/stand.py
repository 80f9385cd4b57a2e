"""What is soaked: Asterisk, Redis and the bridge as a user runs it, with a cap on its calls."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import redis as redis_client

from bridge.media.control import SLOTS
from bridge.media.slots import SlotMap
from bridge.sessions.model import INDEX, call_key
from tests.bench.machine import children
from tests.drill.leftovers import Leftovers
from tests.drill.stage import environment
from tests.drill.still import Still
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY
from tests.soak.witness import Witness

GREETING, ECHO = "700", "701"
_HUMAN = "internal,200,1"


class Stand:
    """A context manager; `processes` are the bridge's, by what they are.

    Args:
        cap: how many calls the bridge takes.
        out: where its logs are kept.
        options: for the bridge's command line.
        greets: with the offline engine, which loads speech models; else only the echo is there.
    """

    def __init__(
        self, cap: int, out: Path, options: tuple[str, ...] = (), *, greets: bool = True
    ) -> None:
        self.cap, self._out, self._options, self._greets = cap, out, options, greets

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as up:
            folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="ari-bridge-soak-")))
            self.redis = up.enter_context(Redis())
            # A call takes two ports for the phone and two for external media; a human takes the
            # first two.
            ports = 4 * self.cap + 200
            self.pbx = up.enter_context(Asterisk(rtp_ports=ports, realtime=True))
            self.pbx.cli(f"dialplan set global ARI_BRIDGE_FALLBACK {_HUMAN}")
            self.bridge = Bridge(
                *(self.pbx, self.redis),
                settings={
                    "agents": {"folder": str(self._agents(folder / "agents"))},
                    "media": {"max_calls": self.cap},
                },
                options=self._options,
                environment=environment(folder),
            )
            up.enter_context(self.bridge)
            up.callback(self._keep_logs)
            self.leftovers = Leftovers(self, [self.bridge], folder)
            slots = SlotMap.attach(self.bridge.runtime_dir / SLOTS, write=False).columns
            still = up.enter_context(Still()).spans
            self.witness = Witness(slots["state"], slots["n_sent"], still)
            self.processes = self._processes()
            self._up = up.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._up.close()

    def _processes(self) -> dict[str, int]:
        """The bridge's, by what they are."""
        found = {"launcher": self.bridge.pid}
        waiting = children(self.bridge.pid)
        while waiting:
            child, words = waiting.pop(0)
            waiting += children(child)
            kind = next((word for word in ("media", "worker") if word in words), "helper")
            number = sum(name.startswith(kind) for name in found) + 1
            found[f"{kind} {number}"] = child
        return found

    def set_up_ms(self) -> list[float]:
        """From our hand-over to our answer, of all calls that were answered: what the records say,
        and so without what Asterisk does before and after."""
        with redis_client.Redis.from_url(self.redis.url, decode_responses=True) as client:
            pipe = client.pipeline(transaction=False)
            for call_id in client.zrange(INDEX, 0, -1):
                pipe.hmget(call_key(call_id), ["started", "answered"])
            rows = pipe.execute()
        return [
            (float(answered) - float(started)) * 1000
            for started, answered in rows
            if started and float(answered or 0)
        ]

    def stages(self) -> list[Mapping[str, float]]:
        """What each stage of a call's set-up took, ms: of all whose records are in the log."""
        console = (self.bridge.directory / "console").read_text(errors="replace")
        found = [line.partition("call record ")[2] for line in console.splitlines()]
        return [json.loads(one)["setup_ms"] for one in found if one]

    def died(self) -> list[str]:
        """Which of them aren't there any more."""
        return [name for name, pid in self.processes.items() if not Path(f"/proc/{pid}").exists()]

    def _agents(self, folder: Path) -> Path:
        """The demo's agents; the one that greets asks again and again whether somebody is there.

        And the drill's, which nobody calls: it tells what a worker still has to do.
        """
        folder.mkdir()
        shutil.copy(REPOSITORY / "agents" / "echo.toml", folder)
        if self._greets:
            demo = (REPOSITORY / "agents" / "demo.toml").read_text()
            patient = demo.replace("no_input_prompts = 2 ", "no_input_prompts = 1000 ")
            assert patient != demo
            (folder / "demo.toml").write_text(patient)
        (folder / "drill.toml").write_text('engine = "drill"\n')
        return folder

    def _keep_logs(self) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.bridge.directory / "console", self._out / "bridge.log")
        shutil.copy(self.pbx.log_path, self._out / "asterisk.log")


class Memory:
    """A context manager: samples how much memory some processes have, in a thread of its own.

    What they share counts once (PSS). The kernel walks through all of their pages for that, which
    takes milliseconds, so whoever has to be on time has no time for it.
    """

    def __init__(self, pids: Mapping[str, int], every_s: float) -> None:
        self._pids, self._every_s = dict(pids), every_s
        self.samples: list[tuple[int, Mapping[str, float]]] = []
        """When (ns of the epoch), and each one's MiB."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            mib = {name: _pss_kib(pid) / 1024 for name, pid in self._pids.items()}
            self.samples.append((time.time_ns(), mib))


def _pss_kib(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
