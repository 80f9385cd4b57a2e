"""One run: callers through the whole bridge to bots that echo, and back.

    generator ─RTP─▶ bridge (every process of ours) ─WebSocket─▶ bot ─WebSocket─▶ bridge ─RTP─▶ ...

The bridge runs as a user runs it: its defaults, one Redis, the launcher with all that it starts.
Instead of an Asterisk it has `Exchange`, an ARI without one. A caller's own speech must not
interrupt what he hears, which is that speech: the agents' files say `barge_in = "off"`, and nothing
else that isn't needed to find the bot.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.callers import wait
from tests.bench.corpus import load_audio
from tests.bench.engines.delays import Back, back
from tests.bench.engines.exchange import Exchange
from tests.bench.generator import Generator
from tests.bench.load import LATEST_FOR_COST_MS, checked
from tests.bench.machine import Cpu, children
from tests.lab.bridge import Bridge
from tests.lab.pipecat import PipecatBot
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, LabError

SECONDS = 15.0
WARM_S, MEASURED_S = 5.0, 8.0
_SETTLE_S = 2.0


@dataclass
class Run:
    """What one run gave."""

    calls: int
    piped: int
    """Calls whose bot was Pipecat's."""
    back: Back
    """To the callers whose bot was ours."""
    piped_back: Back | None
    """To the others."""
    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By process: each of the bridge's, `bot`, `pipecat`."""

    @property
    def bridge(self) -> float:
        """CPU ms a call-second of all processes of ours."""
        ours = sum(s for name, s in self.cpu_s.items() if name.startswith("bridge "))
        return ours * 1000 / (self.calls * self.wall_s)

    @property
    def pipecat(self) -> float:
        """The same of Pipecat, for the calls that it had."""
        return self.cpu_s["pipecat"] * 1000 / (self.piped * self.wall_s)

    def told(self) -> dict[str, object]:
        """CPU ms a call-second, process by process."""
        each = {
            name: round(s * 1000 / (self.calls * self.wall_s), 3) for name, s in self.cpu_s.items()
        }
        return {"cpu_ms_per_call_second": each, "audio": self.back.told()}


def run(engine: str, calls: int, piped: int, seed: int) -> Run:
    """`calls` callers, of whom the first `piped` talk to Pipecat's echo, all others to ours.

    Raises:
        NotVerifiedError: not every one of them heard himself.
    """
    with tempfile.TemporaryDirectory(prefix="ari-bench-") as folder, contextlib.ExitStack() as up:
        notes, heard_of = Path(folder), Path(folder) / "pipecat"
        heard_of.mkdir()
        bot, url = up.enter_context(_bot(notes))
        pipecat = up.enter_context(PipecatBot("echo", heard_of)) if piped else None
        redis = up.enter_context(Redis())
        pbx = up.enter_context(Exchange())
        agents = {"echo": (engine, f"{url}/{engine}")}
        if pipecat is not None:
            agents["piped"] = ("twilio", pipecat.url)
        settings = {"agents": {"folder": str(_agents(notes, agents))}}
        bridge = up.enter_context(Bridge(pbx, redis, settings=settings, options=()))
        generator = up.enter_context(Generator(calls, SECONDS, load_audio(), seed=seed))
        pbx.dial(["piped"] * piped + ["echo"] * (calls - piped), generator.port)

        def all_there() -> bool:
            others = len(pipecat.events("call")) if pipecat is not None else 0
            return len(list(notes.glob(f"*.{engine}"))) + others == calls

        wait(all_there, "every call to reach its bot")
        time.sleep(_SETTLE_S)
        generator.go((pbx.bind, bridge.media_port))
        time.sleep(WARM_S)
        processes = {f"bridge {name}": pid for name, pid in _ours(bridge.pid)}
        processes["bot"] = bot
        if pipecat is not None:
            processes["pipecat"] = pipecat.pid
        with Cpu(processes.values()) as cpu:
            time.sleep(MEASURED_S)
        heard = checked(generator.wait(), LATEST_FOR_COST_MS)
    until_s = SECONDS - 1.0
    ours = back(heard, range(piped, calls), engine == "websocket", WARM_S, until_s)
    theirs = back(heard, range(piped), False, WARM_S, until_s) if piped else None
    used = dict(zip(processes, cpu.each, strict=True))
    return Run(calls, piped, ours, theirs, cpu.wall_s, used)


@contextlib.contextmanager
def _bot(folder: Path) -> Iterator[tuple[int, str]]:
    """Our echo: its process, and where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.engines.bot", str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise LabError("the bench's bot did not start")
        yield process.pid, f"ws://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _agents(notes: Path, agents: dict[str, tuple[str, str]]) -> Path:
    folder = notes / "agents"
    folder.mkdir()
    for name, (engine, url) in agents.items():
        (folder / f"{name}.toml").write_text(
            f'engine = "{engine}"\n[turns]\nbarge_in = "off"\n[{engine}]\nurl = "{url}"\n'
        )
    return folder


def _ours(pid: int) -> list[tuple[str, int]]:
    """The bridge's processes: what they are, and their ids."""
    found = [("launcher", pid)]
    counts: dict[str, int] = {}
    waiting = children(pid)
    while waiting:
        child, words = waiting.pop(0)
        waiting += children(child)
        kind = next((word for word in ("media", "worker") if word in words), "helper")
        counts[kind] = counts.get(kind, 0) + 1
        found.append((f"{kind} {counts[kind]}", child))
    return found
