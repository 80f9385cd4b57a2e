"""SIPp while it places many calls: one for each row of a table, by a scenario that logs lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.lab.asterisk import Asterisk
from tests.lab.root import free_port, program


class Placer:
    """A context manager: calls begin at once.

    Args:
        pbx: whom it calls.
        rows: what `[field0]`, `[field1]`, ... are in each call: `a;b;`, taken in turn.
        scenario: SIPp's XML.
        options: more words for its command line.
    """

    def __init__(self, pbx: Asterisk, rows: Sequence[str], scenario: str, *options: str) -> None:
        self._pbx, self._rows, self._scenario, self._options = pbx, rows, scenario, options

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="ari-bridge-placer-")
        folder = Path(self._folder.name)
        (folder / "calls.csv").write_text("\n".join(["SEQUENTIAL", *self._rows]) + "\n")
        (folder / "call.xml").write_text(self._scenario)
        self._process = subprocess.Popen(
            [
                *(program("sipp"), f"{self._pbx.bind}:{self._pbx.sip_port}"),
                *("-sf", "call.xml", "-inf", "calls.csv", "-nostdin"),
                *("-trace_logs", "-log_file", "lines", "-trace_err", "-error_file", "errors"),
                *("-i", self._pbx.bind, "-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", self._pbx.bind, "-mp", str(free_port(socket.SOCK_DGRAM))),
                *(*self._options, "-rp", "1000"),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._lines: IO[str] | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._lines is not None:
            self._lines.close()
        self._folder.cleanup()

    def stop(self) -> None:
        """Place no more calls, those that are there come to their end; asked again, end those."""
        self._process.send_signal(signal.SIGUSR1)

    @property
    def status(self) -> int | None:
        """How it ended, 0: every call as its scenario wants; None: some are under way."""
        return self._process.poll()

    @property
    def done(self) -> bool:
        """Whether all calls are over."""
        return self.status is not None

    @property
    def pid(self) -> int:
        """SIPp's process id."""
        return self._process.pid

    def errors(self) -> str:
        """What SIPp complained of."""
        path = Path(self._folder.name) / "errors"
        return path.read_text(errors="replace") if path.exists() else ""

    def lines(self) -> list[str]:
        """What the scenario has logged since the last time."""
        if self._lines is None:
            path = Path(self._folder.name) / "lines"
            if not path.exists():
                return []
            self._lines = path.open()
        found: list[str] = []
        while True:
            here = self._lines.tell()
            if not (line := self._lines.readline()).endswith("\n"):
                self._lines.seek(here)  # half a line is read again
                return found
            found.append(line)
