"""The tick: receive, supply, send, for all calls of the host at once.

Time is an argument. `tick(now)` does what is due: what has come goes up, calls that nothing came
from get a frame from the clock, and those whose phase it is send a packet. The 20 ms of sending are
split into two phases, so that a thousand packets don't leave in one burst and receiving is looked
after every 10 ms; but few calls all send in the first, because what a tick costs before its first
packet is most of what they cost. A tick that comes late sends what it missed, up to three packets a
call; beyond that time is passed over, so that nobody's jitter buffer overflows.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import CODECS, down
from bridge.media.clock import Grid
from bridge.media.downlink import Downlink
from bridge.media.reflex import ReflexBank
from bridge.media.slots import FRAME_MS, FREE, OPEN, ORPHAN, SlotMap
from bridge.media.udp import Link, Portable, ip_number, key
from bridge.media.uplink import Uplink

PHASES = 2
PERIOD_MS = 10.0
BURST = 200
"""Packets that may leave at once (1 ms of work): so many calls share one phase, because each batch
has its price before the first packet."""
AHEAD = 1000
"""Packets that a call's numbers begin ahead of what was known to be sent before: 20 s."""
_CATCH_UP = 3
_NOWHERE = "127.0.0.1", 9  # discard, RFC 863


class Plane:
    """Both halves and the grid that drives them."""

    def __init__(self, slots: SlotMap, link: Link | Portable, now: float) -> None:
        """Work on `slots` through `link`, from `now` on."""
        self.slots, self.link = slots, link
        reflex = ReflexBank(slots.columns)
        self.up, self.down = Uplink(slots, link, reflex), Downlink(slots, link, reflex)
        self._c = slots.columns
        self._phases: list[NDArray[np.intp]] = [np.zeros(0, np.intp)] * PHASES
        self.open_calls = 0
        for index in np.flatnonzero(self._c["state"] != FREE):  # a map that we took over
            link.set_remote(
                int(index), int(self._c["remote_ip"][index]), int(self._c["remote_port"][index])
            )
        self.refresh()
        self.down.catch_up(now)
        # Calls that we took over wait for a packet already: behind by one, we send it at once.
        behind_ms = PHASES * PERIOD_MS if self.open_calls else 0.0
        self.grid = Grid(now - behind_ms, PERIOD_MS)
        self._aim(np.flatnonzero(self._c["state"] != FREE))

    def tick(self, now: float) -> None:
        """Do what is due at `now`; harmless at any time."""
        self.up.receive(now)
        self.up.supply(now)
        ticks = self.grid.due(now)
        oldest = len(ticks) - _CATCH_UP * PHASES
        for number, tick in enumerate(ticks):
            calls = self._phases[tick % PHASES]
            if number < oldest:
                self.down.skip(calls)
            else:
                self.down.send(calls)

    def mute(self, call: int) -> tuple[int, int, int]:
        """Hear nothing more of a call, and send it nowhere; its slot stays its owner's.

        Returns the SSRC, sequence number and timestamp that its packets had reached.
        """
        c = self._c
        c["remote_ip"][call], c["remote_port"][call] = ip_number(_NOWHERE[0]), _NOWHERE[1]
        self.link.set_remote(call, int(c["remote_ip"][call]), int(c["remote_port"][call]))
        self.refresh()
        return int(c["out_ssrc"][call]), int(c["out_seq"][call]), int(c["out_ts"][call])

    def open(
        self,
        now: float,
        call_id: str,
        remote: tuple[int, int],
        codec: str,
        *,
        late: int = 0,
        dtx: bool = False,
        after: tuple[int, int, int] | None = None,
    ) -> int | None:
        """Take a slot; its first packet, of silence, leaves at once.

        Args:
            now: ms.
            call_id: names the call.
            remote: IPv4 address and port of the only source that may speak for it.
            codec: a name in `CODECS` that can be used here.
            late: what stands in for lost packets, a number of `slots.LATE`.
            dtx: send nothing in silence.
            after: SSRC, sequence number and timestamp that somebody before us sent last for this
                call, as far as it is known: ours begin well ahead of them, because Asterisk
                drops what goes back.

        Returns:
            The slot's index; None if there is none left.
        """
        c = self._c
        free = np.flatnonzero(c["state"] == FREE)
        if not len(free):
            return None
        unread = c["record"][free]  # the end of a recorded call, for some tenths of a second
        index = int(free[np.argmin(unread)])
        self.slots.reset(index)
        row = CODECS[codec]
        c["call_id"][index] = call_id.encode()
        c["codec"][index] = row.number
        c["down_rate"][index] = down(row).sample_rate // 1000
        c["remote_ip"][index], c["remote_port"][index] = remote
        c["phase"][index] = self._phase()
        c["state"][index] = OPEN
        self.up.timeline.begin(now, index, row.sample_rate // 1000, row.clock_rate // 1000)
        c["late"][index], c["dtx"][index] = late, dtx
        if after is None:
            after = secrets.randbits(32), secrets.randbits(16), secrets.randbits(32)
        ssrc, seq, ts = after
        self.down.packetizer.begin(index, ssrc, seq + AHEAD, ts + AHEAD * 160)
        self.link.set_remote(index, *remote)
        self.refresh()
        self.down.send(np.array([index]))
        c["down_head"][index] = 0  # it leaves before the first 20 ms begin
        self._aim(np.array([index]))
        return index

    def _aim(self, calls: NDArray[np.intp]) -> None:
        """Note when frames leave: the grid of these calls is a new one."""
        c, grid = self._c, self.grid
        phase = c["phase"][calls].astype(np.int64)  # a byte can't hold what is taken off it
        ticks = grid.tick + 1 + (phase - (grid.tick + 1)) % PHASES
        leaves_ms = grid.start_ms + ticks * grid.period_ms - c["t_open_ms"][calls]
        c["down_ms"][calls] = leaves_ms - c["down_head"][calls] * FRAME_MS

    def _phase(self) -> int:
        """Of a new call: the first until a burst would be too large, then the emptiest."""
        sizes = [len(calls) for calls in self._phases]
        return next((n for n, size in enumerate(sizes) if size < BURST), int(np.argmin(sizes)))

    def close(self, index: int) -> None:
        """Give a slot back."""
        self._c["state"][index] = FREE
        self.up.timeline.end(index)
        self.up.jitter.forget(index)
        self.up.conceal.stop(index)
        self.up.forget(index)
        self.down.forget(index)
        self.up.fresh[index] = False
        self.refresh()

    def overdue(self, now: float, grace_ms: float) -> NDArray[np.intp]:
        """Slots whose worker has been gone for longer than the grace."""
        c = self._c
        return np.flatnonzero((c["state"] == ORPHAN) & (c["orphan_ms"] + grace_ms <= now))

    def refresh(self) -> None:
        """Look at the slots anew: who may speak, who sends when."""
        c = self._c
        taken = np.flatnonzero(c["state"] != FREE)
        self.open_calls = len(taken)
        keys = key(c["remote_ip"][taken], c["remote_port"][taken])
        order = np.argsort(keys)
        self.up.listen(keys[order], taken[order])
        self._phases = [taken[c["phase"][taken] == phase] for phase in range(PHASES)]
