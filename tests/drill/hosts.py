"""Two hosts in one: network namespaces beside ours, on a switch of their own (needs root)."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Self

from tests.drill.stage import Options, Stage
from tests.drill.tally import Tally
from tests.lab.bridge import Bridge
from tests.lab.root import LabError

_DOWN_S = 4.0
_GRACE_MS = 5000


class Switch:
    """A switch, our own address on it, and a network namespace a host. A context manager."""

    def __init__(self, hosts: int) -> None:
        number = random.randrange(1, 250)
        self._name = f"ab{os.getpid() % 100_000}"
        self.address = f"10.213.{number}.1"
        self.hosts = [f"10.213.{number}.{n + 2}" for n in range(hosts)]
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise LabError("the drill kill_host needs root and `ip` (Debian: iproute2)")
        try:
            self._ip(f"link add {self._name} type bridge", f"link del {self._name}")
            self._ip(f"addr add {self.address}/24 dev {self._name}")
            self._ip(f"link set {self._name} up")
            for n, address in enumerate(self.hosts):
                space, end = self.space(n), f"{self._name}-{n}"
                self._ip(f"netns add {space}", f"netns del {space}")
                self._ip(f"link add {end} type veth peer name eth0 netns {space}")
                self._ip(f"link set {end} master {self._name} up")
                self._ip(f"-n {space} addr add {address}/24 dev eth0")
                self._ip(f"-n {space} link set eth0 up")
                self._ip(f"-n {space} link set lo up")
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def space(self, n: int) -> str:
        """The name of a host's network namespace."""
        return f"{self._name}n{n}"

    def enter(self, n: int) -> tuple[str, ...]:
        """Words before the command line of a program on that host."""
        return ("ip", "netns", "exec", self.space(n))

    def _ip(self, words: str, undo: str = "") -> None:
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
        if done.returncode:
            raise LabError(
                f"no network namespaces here, so the drill kill_host can't be held: "
                f"`ip {words}`: {done.stderr.strip()}"
            )
        if undo:
            self._undo.callback(subprocess.run, ["ip", *undo.split()], capture_output=True)


@dataclass
class _Hosts(Stage):
    """A stage with a bridge on each of two hosts."""

    switch: Switch | None = None

    def more(self) -> list[Bridge]:
        assert self.switch
        settings = {**self.made, "media": {**self.made["media"], **_media(self.switch, 1)}}
        return [
            Bridge(
                *(self.stack.pbx, self.stack.redis),
                settings=settings,
                options=self.words,
                environment=self.environment,
                prefix=self.switch.enter(1),
            )
        ]


def kill_host(options: Options) -> Tally:
    """`kill -9` of everything of ours on one of two hosts; it comes back some seconds later."""
    with Switch(2) as switch:
        stage = _Hosts(
            *("kill_host", options, ("--workers", "1")),
            settings={"media": _media(switch, 0)},
            address=switch.address,
            prefix=switch.enter(0),
            switch=switch,
        )
        with stage:

            def strike() -> None:
                bridge = stage.random.choice(stage.bridges)
                for pid in [bridge.pid, *bridge.children("worker"), *bridge.children("media")]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_DOWN_S)
                bridge.kill()
                bridge.start()

            left = options.rounds
            while left:
                rounds = min(left, 3)
                # What a dead host had queued is gone with it; what was noted is some 200 ms old.
                stage.block([strike] * rounds, round_s=8.0, word_ms=700, patience_s=8.0)
                left -= rounds
            return stage.tally


def _media(switch: Switch, n: int) -> dict[str, object]:
    # The namespace is a host of its own, its files are ours: slots of the dead are soon given up.
    return {"listen_address": switch.hosts[n], "grace_ms": _GRACE_MS}
