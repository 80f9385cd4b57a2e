"""SIPp places calls that come and go by chance, and says in lines what becomes of each.

A line a step: `try`, `up` (with the PBX's RTP port), `bye`, `over`; the caller's number; and SIPp's
own clock in ms, by which set-up is measured: from the INVITE (about to be sent) to the 200 OK. A
call that fails says nothing more.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from tests.lab.asterisk import Asterisk
from tests.lab.root import free_port, program
from tests.lab.sipp import request
from tests.soak.wire import address

Step = Literal["try", "up", "bye", "over"]
_SDP = (
    *("v=0", "o=sipp 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 [field1]"),
    *("t=0 0", "m=audio [rtp_port] RTP/AVP 0", "a=rtpmap:0 PCMU/8000"),
)


@dataclass(frozen=True)
class Event:
    """What has become of a call."""

    step: Step
    caller: int
    at_ms: int
    """SIPp's clock."""
    port: int = 0
    """Where the PBX wants audio."""
    since_s: float = 0.0
    """SIPp's clock's zero, in seconds of the epoch, as well as is known."""

    @property
    def at_ns(self) -> int:
        """When, ns of the epoch."""
        return int(self.since_s * 1e9) + self.at_ms * 1_000_000


class Placer:
    """Calls, from `with` on.

    Args:
        pbx: whom they call.
        rtp_port: of the callers' wire.
        callers: who calls, in turn, again and again.
        extensions: where they call, in turn.
        at_once: as many calls as are under way at a time.
        rate: new calls a second at most.
        hold_ms: how long a call lasts from the answer on: anything between.
        spread_ms: a call begins so much later at most, by chance.
        count: of all calls; None: until `stop`.
    """

    def __init__(
        self,
        pbx: Asterisk,
        rtp_port: int,
        callers: range,
        extensions: Sequence[str],
        *,
        at_once: int,
        rate: int,
        hold_ms: tuple[int, int],
        spread_ms: int = 0,
        count: int | None = None,
    ) -> None:
        self._pbx, self._port, self._callers, self._extensions = pbx, rtp_port, callers, extensions
        self._at_once, self._rate, self._count = at_once, rate, count
        self._hold_ms, self._spread_ms = hold_ms, spread_ms
        self._since_s = float("inf")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="ari-bridge-soak-")
        folder = Path(self._folder.name)
        rows = [
            f"{caller};{address(caller)};{self._extensions[n % len(self._extensions)]};"
            for n, caller in enumerate(self._callers)
        ]
        (folder / "calls.csv").write_text("\n".join(["SEQUENTIAL", *rows]) + "\n")
        (folder / "call.xml").write_text(self._scenario())
        self._process = subprocess.Popen(
            [
                *(program("sipp"), f"{self._pbx.bind}:{self._pbx.sip_port}", "-sf", "call.xml"),
                *("-inf", "calls.csv", "-nostdin", "-key", "rtp_port", str(self._port)),
                *("-trace_logs", "-log_file", "steps", "-trace_err", "-error_file", "errors"),
                *("-l", str(self._at_once), "-r", str(self._rate), "-rp", "1000"),
                *(("-m", str(self._count)) if self._count is not None else ()),
                *("-i", self._pbx.bind, "-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", self._pbx.bind, "-mp", str(free_port(socket.SOCK_DGRAM))),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._steps: IO[str] | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._steps is not None:
            self._steps.close()
        self._folder.cleanup()

    def stop(self) -> None:
        """Place no more calls; those that are there come to their end."""
        self._process.send_signal(signal.SIGUSR1)

    @property
    def done(self) -> bool:
        """Whether all calls are over."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """SIPp's process id."""
        return self._process.pid

    @property
    def longest_s(self) -> float:
        """A call lasts so long at most, from the answer on."""
        return self._hold_ms[1] / 1000

    def errors(self) -> str:
        """What SIPp complained of."""
        path = Path(self._folder.name) / "errors"
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self) -> list[Event]:
        """What has become of calls since the last time."""
        if self._steps is None:
            path = Path(self._folder.name) / "steps"
            if not path.exists():
                return []
            self._steps = path.open()
        found = []
        while True:
            here = self._steps.tell()
            if not (line := self._steps.readline()).endswith("\n"):
                self._steps.seek(here)  # half a line is read again
                return found
            step, caller, at_ms, *port = line.split()
            # Its clock starts with it; the line that we read soonest tells best when that was.
            self._since_s = min(self._since_s, time.time() - int(at_ms) / 1000)
            found.append(
                Event(step, int(caller), int(at_ms), int(*port), self._since_s)  # type: ignore[arg-type]
            )

    def _scenario(self) -> str:
        def note(step: Step, more: str = "") -> str:
            return f'<action><log message="{step} [field0] [clock_tick]{more}"/></action>'

        def later(low: int, high: int) -> str:
            return f'  <pause distribution="uniform" min="{low}" max="{high}"/>\n'

        optional = "".join(
            f'  <recv response="{code}" optional="true"/>\n' for code in (100, 180, 181, 182, 183)
        )
        port = '<ereg regexp="m=audio ([0-9]+) " search_in="body" assign_to="line,port"/>'
        up = note("up", " [$port]").replace("<action>", f"<action>{port}")
        whole = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="soak">\n'
            + (later(0, self._spread_ms) if self._spread_ms else "")
            + f"  <nop>{note('try')}</nop>\n"
            + request("INVITE", 1, "", "".join(f"      {line}\n" for line in _SDP))
            + optional
            + f'  <recv response="200">{up}</recv>\n'
            + request("ACK", 1, "[peer_tag_param]")
            + later(*self._hold_ms)
            + f"  <nop>{note('bye')}</nop>\n"
            + request("BYE", 2, "[peer_tag_param]")
            + f'  <recv response="200">{note("over")}</recv>\n'
            + '  <Reference variables="line"/>\n</scenario>\n'
        )
        return whole.replace("[service]", "[field2]")
