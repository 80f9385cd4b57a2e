"""SIPp places calls that come and go by chance, and says in lines what becomes of each.

A line a step: `try`, `up` (with the PBX's RTP port), `bye`, `over`; the caller's number; and SIPp's
own clock in ms, by which set-up is measured: from the INVITE (about to be sent) to the 200 OK. A
call that fails says nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.lab import placer
from tests.lab.asterisk import Asterisk
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


class Placer(placer.Placer):
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
        self._hold_ms = hold_ms
        self._since_s = float("inf")
        rows = [
            f"{caller};{address(caller)};{extensions[n % len(extensions)]};"
            for n, caller in enumerate(callers)
        ]
        options = ["-key", "rtp_port", str(rtp_port), "-l", str(at_once), "-r", str(rate)]
        options += ["-m", str(count)] if count is not None else []
        super().__init__(pbx, rows, _scenario(hold_ms, spread_ms), *options)

    @property
    def longest_s(self) -> float:
        """A call lasts so long at most, from the answer on."""
        return self._hold_ms[1] / 1000

    def events(self) -> list[Event]:
        """What has become of calls since the last time."""
        found = []
        for line in self.lines():
            step, caller, at_ms, *port = line.split()
            # Its clock starts with it; the line that we read soonest tells best when that was.
            self._since_s = min(self._since_s, time.time() - int(at_ms) / 1000)
            found.append(
                Event(step, int(caller), int(at_ms), int(*port), self._since_s)  # type: ignore[arg-type]
            )
        return found


def _scenario(hold_ms: tuple[int, int], spread_ms: int) -> str:
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
        + (later(0, spread_ms) if spread_ms else "")
        + f"  <nop>{note('try')}</nop>\n"
        + request("INVITE", 1, "", "".join(f"      {line}\n" for line in _SDP))
        + optional
        + f'  <recv response="200">{up}</recv>\n'
        + request("ACK", 1, "[peer_tag_param]")
        + later(*hold_ms)
        + f"  <nop>{note('bye')}</nop>\n"
        + request("BYE", 2, "[peer_tag_param]")
        + f'  <recv response="200">{note("over")}</recv>\n'
        + '  <Reference variables="line"/>\n</scenario>\n'
    )
    return whole.replace("[service]", "[field2]")
