"""What a drill is held on: Asterisk, Redis and the bridge, with the drill's own agents."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis as redis_client

from tests.drill.engine import GREETING_HZ, TASKS_FOLDER, sentence
from tests.drill.leftovers import Leftovers
from tests.drill.records import Records
from tests.drill.rounds import Block, Strike
from tests.drill.still import Still
from tests.drill.tally import Tally
from tests.drill.tools import FILE
from tests.lab.bridge import Bridge
from tests.lab.root import LabError
from tests.lab.stack import Stack

_AGENT = """engine = "drill"
greeting = "{greeting}"
tools = ["count"]
{more}
[turns]
no_input_ms = 60000
end_silence_ms = 300
"""
_THERE_S = 30.0


@dataclass(frozen=True)
class Options:
    """How a drill is to be held."""

    rounds: int = 20
    calls: int = 20
    seed: int = 1
    takeover: bool = True
    seconds: float = 900.0
    """Of the drill `chaos`."""
    say: Callable[[str], None] = lambda line: None
    out: Path = Path("out/drill")
    voids: bool = True
    """A round in which the machine stood still is held again, because its gaps mean nothing."""


@dataclass
class Stage:
    """A context manager: everything is up inside.

    Args:
        name: of the drill, for its log.
        options: how it is to be held.
        words: for the bridge's command line.
        settings: of bridge.toml.
        agent: more lines of the agents' files.
        address, prefix: see `tests.lab.stack.Stack`.
    """

    name: str
    options: Options
    words: tuple[str, ...] = ("--workers", "2")
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    agent: str = ""
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    blocks: type[Block] = Block
    """What `block` holds."""
    stack: Stack = field(init=False)

    def __enter__(self) -> Self:
        self.random = random.Random(self.options.seed)
        self.tally = Tally(say=lambda line: self.options.say(f"{self.name}: {line}"))
        with contextlib.ExitStack() as started:
            folder = Path(
                started.enter_context(tempfile.TemporaryDirectory(prefix="ari-bridge-drill-"))
            )
            self.made: dict[str, Mapping[str, object]] = {
                "agents": {"folder": str(_agents(folder / "agents", self.agent))},
                "worker": {"takeover": self.options.takeover},
                **self.settings,
            }
            self.environment = environment(folder)
            self.tally.still = started.enter_context(Still()).spans
            self.stack = Stack(
                settings=self.made,
                options=self.words,
                environment=self.environment,
                address=self.address,
                prefix=self.prefix,
            )
            self.prepare(started)
            self.bridges = [self.stack.bridge]
            started.enter_context(self.stack)
            started.callback(self._keep_logs, 0)
            for number, bridge in enumerate(self.more(), 1):
                started.enter_context(bridge)
                self.bridges.append(bridge)
                started.callback(self._keep_logs, number)
            self.workers = len(self.stack.bridge.children("worker"))
            self.records = self.recorded(folder)
            self.ready()
            self.leftovers = Leftovers(self.stack, self.bridges, folder)
            self._started = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._started.close()

    @property
    def bridge(self) -> Bridge:
        return self.stack.bridge

    def prepare(self, started: contextlib.ExitStack) -> None:
        """Before anything of the stack is started."""

    def recorded(self, folder: Path) -> Records:
        """What is remembered of the calls, and of the tools' effects."""
        return Records(self.stack.redis, folder / "tools")

    def more(self) -> list[Bridge]:
        """Further bridges, started after the first."""
        return []

    def block(self, strikes: list[Strike], **how: object) -> Block:
        """Calls that stay up while these happen, one a round."""
        self.ready()  # else the first strike of "one of two" hits the only one
        block = self.blocks(
            *(self.stack.pbx, self.tally, self.records, self.random, self.options.calls),
            ready=self.ready,
            number=100_000 + self.tally.calls,
            **how,  # type: ignore[arg-type]
        )
        block.hold(strikes, self.tally.rounds)
        self.look()
        self.options.say(f"{self.name}: {self.tally.rounds} rounds, {self.tally.calls} calls")
        return block

    def look(self) -> None:
        """Count what is left over, now that all calls have ended."""
        for kind, count in self.leftovers.find().items():
            self.tally.leftovers[kind] += count
            if count:
                self.tally.note(f"left over: {count} {kind}")

    def ready(self) -> None:
        """Wait until every worker and media process that died has a successor."""
        until = time.monotonic() + _THERE_S
        while not self._complete():
            if time.monotonic() > until:
                raise LabError(f"{self.name}: not all workers came back; see {self.name}.log")
            time.sleep(0.1)

    def takers(self) -> list[str]:
        """Workers that live and take calls, by name."""
        with redis_client.Redis.from_url(self.stack.redis.url, decode_responses=True) as server:
            about = server.hgetall("ari-bridge:{workers}:about")
        return [name for name, text in about.items() if json.loads(text)["takes"]]

    def busy(self) -> list[int]:
        """The process ids of the workers that have calls; of all while none has."""
        owners = {int(name.split("-")[-2]) for name in self.records.owners().values()}
        there = self.bridge.children("worker")
        return [pid for pid in there if pid in owners] or there

    def _complete(self) -> bool:
        wanted, there = self.workers * len(self.bridges), len(self.takers())
        # Without takeover nobody takes the dead off the list.
        return (there == wanted or (there > wanted and not self.options.takeover)) and all(
            len(bridge.children("media")) == 2 for bridge in self.bridges
        )

    def _keep_logs(self, number: int) -> None:
        self.options.out.mkdir(parents=True, exist_ok=True)
        name = f"{self.name}.{number}.log" if number else f"{self.name}.log"
        shutil.copy(self.bridges[number].directory / "console", self.options.out / name)
        shutil.copy(self.stack.pbx.log_path, self.options.out / f"{self.name}.asterisk.log")


def environment(folder: Path) -> dict[str, str]:
    """A plug-in folder with the drill's engine and tool: entry points, and our own code."""
    info = folder / "ari_bridge_drill-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ari-bridge-drill\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[ari_bridge.engines]\ndrill = tests.drill.engine:provider\n"
        "[ari_bridge.tools]\ncount = tests.drill.tools:count\n"
    )
    root = Path(__file__).parents[2]
    return {
        "PYTHONPATH": f"{folder}:{root}",
        TASKS_FOLDER: str(folder),
        FILE: str(folder / "tools"),
    }


def _agents(folder: Path, more: str) -> Path:
    """The agents of the drill, under the names that the sample dialplan calls."""
    folder.mkdir()
    for name, hz, long in (("demo", GREETING_HZ[0], True), ("echo", GREETING_HZ[1], False)):
        text = _AGENT.format(greeting=sentence(hz, long=long), more=more)
        (folder / f"{name}.toml").write_text(text)
    return folder
