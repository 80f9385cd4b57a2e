"""A service manager for tests: starts what the files in systemd/ say, and hears what it is told.

It reads of a unit what a test can do without root: the command, the variables, `Type=notify`, the
watchdog, the signals. The rest (users, hardening) `systemd-analyze` judges: test_units.py.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.lab.root import REPOSITORY, LabError

UNITS = REPOSITORY / "systemd"
COMMAND = "/opt/ari-bridge/venv/bin/ari-bridge"
CONFIG = "/etc/ari-bridge/bridge.toml"
_READY_S = 60.0


def keys(file: Path) -> dict[str, dict[str, list[str]]]:
    """A unit file: what each section says, a list a key (several lines add up)."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return found


def file_of(unit: str) -> Path:
    """The file of a unit, such as `ari-bridge-worker@1.service`."""
    name, at, instance = unit.partition("@")
    return UNITS / (f"{name}@.{instance.partition('.')[2]}" if at else unit)


@dataclass
class Service:
    """One unit, as it runs."""

    unit: str
    process: subprocess.Popen[bytes]
    socket: socket.socket
    log: Path
    told: list[str] = field(default_factory=list)

    def hear(self, line: str, within_s: float = _READY_S) -> None:
        """Wait until it has told that. Raises `LabError`."""
        until = time.monotonic() + within_s
        while line not in self.told:
            self.socket.settimeout(max(0.01, until - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                self.told += self.socket.recv(4096).decode().splitlines()
            if self.process.poll() is not None or time.monotonic() > until:
                words = self.log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise LabError(f"{self.unit} never told {line}; it said: {words[-1]}")


class Services:
    """`with Services(folder, config) as services: services.start("ari-bridge-web.service")`."""

    def __init__(
        self, folder: Path, config: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder, self._config = folder, config
        self._environment = environment or {}
        self.running: dict[str, Service] = {}

    def start(self, unit: str) -> Service:
        """Start it as its file says, and wait until it is ready; in the place of one that ended."""
        service = keys(file_of(unit))["Service"]
        (command,) = service["ExecStart"]
        words = shlex.split(command)
        assert words[0] == COMMAND, command
        words = [sys.executable, "-m", "bridge"] + [
            str(self._config) if word == CONFIG else word for word in words[1:]
        ]
        if unit in self.running:
            self.running[unit].socket.close()
        address = str(self._folder / f"{unit}.notify")
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path(address).unlink(missing_ok=True)
        ear.bind(address)
        watched = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
        log = self._folder / f"{unit}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                words,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self._environment, **watched},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.running[unit] = found = Service(unit, process, ear, log)
        assert service["Type"] == ["notify"]
        found.hear("READY=1")
        return found

    def stop(self, unit: str) -> int:
        """Stop it in order; the exit status."""
        service = self.running.pop(unit)
        service.process.send_signal(signal.SIGTERM)
        try:
            (within_s,) = keys(file_of(unit))["Service"]["TimeoutStopSec"]
            return service.process.wait(float(within_s))
        finally:
            service.process.kill()
            service.process.wait()
            service.socket.close()

    def logs(self) -> str:
        """What all have said."""
        return "".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for unit in sorted(self.running, reverse=True):  # workers first
            self.stop(unit)
