"""What is still there when all calls are over: on the PBX, in Redis, and in our processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Protocol

import redis as redis_client

from bridge.media.slots import FREE, SlotMap
from tests.drill.engine import TASKS_FOLDER
from tests.drill.tally import LEFTOVERS
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis

_WAIT_S = 6.0
_TELL_S = 2.0


class Servers(Protocol):
    """What the bridges work with."""

    redis: Redis
    pbx: Asterisk


class Leftovers:
    """Looks for them; what is there with no call at all (`__init__`) is none."""

    def __init__(self, stack: Servers, bridges: list[Bridge], tasks_folder: Path) -> None:
        self._stack, self._bridges, self._folder = stack, bridges, tasks_folder
        self._ports = self._udp_ports()
        self._processes = self._all_processes()
        self._tasks: dict[str, int] = {}
        self.learn()

    def learn(self) -> None:
        """What workers do while idle: whoever does no more has nothing left over."""
        for kinds in self._all_tasks():
            for kind, count in kinds.items():
                self._tasks[kind] = max(count, self._tasks.get(kind, 0))

    def find(self) -> dict[str, int]:
        """How much of each kind, once it has had time to go."""
        until = time.monotonic() + _WAIT_S
        while True:
            found = self._look()
            if not any(found.values()) or time.monotonic() > until:
                return found
            time.sleep(0.2)

    def _look(self) -> dict[str, int]:
        server = redis_client.Redis.from_url(self._stack.redis.url, decode_responses=True)
        live = server.hlen("ari-bridge:live")
        server.close()
        found = {
            "channels": len(self._stack.pbx.channels()),
            "mixing_bridges": len(self._stack.pbx.bridges()),
            "sessions": live,
            "slots": sum(_slots(bridge) for bridge in self._bridges),
            "ports": max(0, self._udp_ports() - self._ports),
            "tasks": 0,
            "processes": max(0, self._all_processes() - self._processes),
        }
        if not any(found.values()):
            found["tasks"] = sum(
                max(0, count - self._tasks.get(kind, 0))
                for kinds in self._all_tasks()
                for kind, count in kinds.items()
            )
        assert set(found) == set(LEFTOVERS)
        return found

    def _udp_ports(self) -> int:
        """Bound UDP ports of Asterisk and of our processes."""
        pids = [self._stack.pbx.pid]
        for bridge in self._bridges:
            pids += [*bridge.children("media"), *bridge.children("worker")]
        return sum(len(_sockets(pid).intersection(_links(pid))) for pid in pids)

    def _all_processes(self) -> int:
        """All that the bridges have started, and what these have: they know the drill's folder."""
        mark = f"{TASKS_FOLDER}={self._folder}".encode()
        pids, parents = set(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    pids.add(int(entry.name))
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
        # One that has ended and that nobody waited for has no environment any more.
        return len(pids) + sum(pid not in pids and up in pids for pid, up in parents.items())

    def _all_tasks(self) -> list[dict[str, int]]:
        """Each worker's tasks by kind."""
        told = []
        for bridge in self._bridges:
            for pid in bridge.children("worker"):
                path = self._folder / str(pid)
                path.unlink(missing_ok=True)
                if not _listens(pid):
                    told.append({"silent": 1})
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
                until = time.monotonic() + _TELL_S
                while not path.exists() and time.monotonic() < until:
                    time.sleep(0.01)
                told.append(json.loads(path.read_text()) if path.exists() else {"silent": 1})
        return told


def _listens(pid: int) -> bool:
    """Whether it has a handler for SIGUSR1, which would end a worker that is still starting."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def _slots(bridge: Bridge) -> int:
    path = bridge.runtime_dir / "media.slots"
    return int((SlotMap.attach(path).columns["state"] != FREE).sum())


def _sockets(pid: int) -> set[str]:
    """Every UDP socket of a process' network namespace, as /proc/PID/fd names it."""
    with contextlib.suppress(FileNotFoundError):
        lines = Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]
        return {f"socket:[{line.split()[9]}]" for line in lines}
    return set()


def _links(pid: int) -> list[str]:
    links = []
    with contextlib.suppress(FileNotFoundError):  # the process has ended
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(str(handle.readlink()))
    return links


def resident_mib(bridges: list[Bridge]) -> float:
    """Memory of all our processes, MiB (what they share counts for each)."""
    total = 0.0
    for bridge in bridges:
        for pid in [*bridge.children("media"), *bridge.children("worker"), bridge.pid]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return total
