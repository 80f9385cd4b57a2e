"""Phones whose audio is ours to the sample, on real calls through Asterisk.

SIPp makes the calls; its SDP names a socket of ours. One loop serves all phones: every 20 ms, on an
absolute grid, each sends a frame of what its caller says, of the noise behind him and of the echo
on his line; what comes is noted with the kernel's own time stamp. What a caller does is a script, a
generator that is resumed at every tick and says when to speak.

A frame leaves when its last sample was spoken, so a sample was spoken up to 20 ms before its packet
was sent: that is how `tests.lab.capture.lay_out` places it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.bench.corpus import encode
from tests.bench.turns.corpus import ECHO_DB, Clip
from tests.bench.turns.voices import at_level
from tests.lab.asterisk import Asterisk
from tests.lab.capture import DTMF_NAMES, PCMU, RATE, Pcm, RtpPacket, decode
from tests.lab.root import LabError, free_port, free_range, program
from tests.lab.sipp import scenario
from tests.lab.speech import Ear

FRAME = RATE // 50
EVENTS, KEY_TICKS = 101, 6
"""Payload type of keys, and how long one is held: 120 ms."""
ANSWER_S = 20.0
APART_S = 0.4
"""Between the beginnings of two calls."""
BED_VOICE_DBFS = -20.0
"""Level of a voice that is heard over a call's noise."""
_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h: SO_TIMESTAMPNS; Python has no name for it

Script = Generator[None, None, None]


@dataclass(frozen=True)
class Said:
    """A clip that a caller gave; `at` is its first sample, counted in what his phone sent."""

    clip: Clip
    at: int
    number: int
    """How many packets had come by then: what is known of the agent at that moment."""


@dataclass(frozen=True)
class Key:
    """A key that a caller pressed; it was let go at `at`, epoch seconds."""

    digit: str
    at: float


@dataclass
class Phone:
    """One call. Times are epoch seconds."""

    extension: str
    play: Callable[[Phone], Script]
    """What the caller does, from the moment the call is answered; at its end he hangs up."""
    bed: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    """Noise behind him for the whole call, in a loop."""
    packets: list[RtpPacket] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    ear: Ear = field(default_factory=lambda: Ear(0.35))
    echo_ms: int = 0
    """So late the agent's own audio comes back; 0: a line without echo."""
    over: bool = False
    late_ms: list[float] = field(default_factory=list)
    """How late each frame was sent."""

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = free_range(2)
        self.socket.bind(("127.0.0.1", self.port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self.sent = 0
        self.now = 0.0
        self.received: list[RtpPacket] = []
        self._speech = np.zeros(0, np.int16)
        self._peer: tuple[str, int] | None = None
        self._script: Script | None = None
        self._ssrc = int.from_bytes(os.urandom(4))
        self._seq = self._ts = 0
        self._key = ""
        self._key_ticks = 0
        self._line = np.zeros(0, np.int16)  # what came, laid out in time
        self._line_from = 0.0
        self._line_end = 0

    # For scripts ----------------------------------------------------------------------------------

    def say(self, clip: Clip) -> None:
        """Begin to give a clip with the next frame."""
        self.said.append(Said(clip, self.sent * FRAME, len(self.received)))
        if clip.echo_ms:
            self.echo_ms = clip.echo_ms
            self._speech = np.zeros(round(clip.length_ms * RATE / 1000), np.int16)
        elif clip.bed and clip.speech:  # the call's noise is meant for a voice of this level
            self._speech = at_level(clip.pcm, BED_VOICE_DBFS)
        else:
            self._speech = clip.pcm

    def press(self, digit: str) -> Script:
        """Press a key, and wait until it is let go."""
        self._key, self._key_ticks = digit, 0
        while self._key:
            yield

    @property
    def speaks(self) -> bool:
        """Whether a clip is still being given."""
        return len(self._speech) > 0

    def pause(self, seconds: float) -> Script:
        """Wait."""
        until = self.now + seconds
        while self.now < until:
            yield

    def finish(self) -> Script:
        """Wait until the clip has been given."""
        while self.speaks:
            yield
        self.echo_ms = 0

    def silent(self, seconds: float, most_s: float) -> Script:
        """Wait until the agent has been silent for so long."""
        until = self.now + most_s
        while self.ear.silent_for(self.now) < seconds and self.now < until:
            yield

    def answered(self, most_s: float) -> Script:
        """Wait until the agent speaks."""
        since = until = self.now
        until += most_s
        while not self.ear.spoke_since(since) and self.now < until:
            yield

    # For the loop ---------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take what has come."""
        while True:
            try:
                data, control, _, peer = self.socket.recvmsg(2048, 128)
            except BlockingIOError:
                return
            if len(data) < 12 or data[0] != 0x80 or 192 <= data[1] <= 223:
                continue
            at = next(
                (
                    seconds + ns / 1e9
                    for kind, name, value in control
                    if (kind, name) == (socket.SOL_SOCKET, _TIMESTAMPNS)
                    for seconds, ns in [struct.unpack("qq", value[:16])]
                ),
                time.time(),
            )
            self._peer = peer
            self._take(at, data)

    def _take(self, at: float, data: bytes) -> None:
        _, kind, seq, ts, ssrc = struct.unpack_from("!BBHII", data)
        packet = RtpPacket(
            at, self.port, False, kind & 0x7F, bool(kind & 0x80), seq, ts, ssrc, data[12:]
        )
        self.packets.append(packet)
        pcm = decode(packet)
        if pcm is None:
            return
        self.received.append(packet)
        self.ear.feed(packet)
        if not len(self._line):
            self._line, self._line_from = np.zeros(RATE * 300, np.int16), at
        place = round((at - self._line_from) * RATE)
        if abs(place - self._line_end) < FRAME // 2:  # as a loudspeaker plays it: without a seam
            place = self._line_end
        if place + len(pcm) <= len(self._line):
            self._line[place : place + len(pcm)] = pcm
            self._line_end = place + len(pcm)

    def tick(self, now: float, due: float) -> None:
        """Let the caller act, and send a frame."""
        self.now = now
        if self._peer is None or self.over:
            return
        if self._script is None:
            self._script = self.play(self)
        try:
            next(self._script)
        except StopIteration:
            self.over = True
            return
        if self._key:
            self._send_key()
        else:
            self._send_audio(now, due)
        self._ts += FRAME

    def _send_audio(self, now: float, due: float) -> None:
        payload = encode(self._frame(now)).tobytes()
        at, seq = time.time(), self._seq & 0xFFFF
        self._send(PCMU, self._ts, payload)
        self.packets.append(
            RtpPacket(at, self.port, True, PCMU, False, seq, self._ts, self._ssrc, payload)
        )
        self.late_ms.append((at - due) * 1000)
        self.sent += 1

    def _send_key(self) -> None:
        """The next packet of a key (RFC 4733 2.5: one time stamp, a growing duration; the end comes
        three times)."""
        self._key_ticks += 1
        event, begin = DTMF_NAMES.index(self._key), self._ts - (self._key_ticks - 1) * FRAME
        ends = self._key_ticks == KEY_TICKS
        if ends:
            self.keys.append(Key(self._key, time.time()))
            self._key = ""
        for _ in range(3 if ends else 1):
            duration = self._key_ticks * FRAME
            self._send(EVENTS, begin, struct.pack("!BBH", event, 0x80 * ends | 10, duration))

    def _send(self, kind: int, ts: int, payload: bytes) -> None:
        assert self._peer is not None
        header = struct.pack("!BBHII", 0x80, kind, self._seq & 0xFFFF, ts, self._ssrc)
        self.socket.sendto(header + payload, self._peer)
        self._seq += 1

    def _frame(self, now: float) -> Pcm:
        frame = np.zeros(FRAME, np.int32)
        if len(self.bed):
            frame += np.take(self.bed, self.sent * FRAME + np.arange(FRAME), mode="wrap")
        part, self._speech = self._speech[:FRAME], self._speech[FRAME:]
        frame[: len(part)] += part
        if self.echo_ms:
            end = round((now - self._line_from - self.echo_ms / 1000) * RATE)
            back = self._line[max(end - FRAME, 0) : max(end, 0)]
            if len(back) == FRAME:
                frame += np.round(back * 10 ** (ECHO_DB / 20)).astype(np.int32)
        return np.clip(frame, -32768, 32767).astype(np.int16)


def hold(pbx: Asterisk, phones: Sequence[Phone], most_s: float) -> None:
    """Hold the calls of some phones at once, until every script is over.

    Raises:
        LabError: a call did not come about, or did not end in time.
    """
    with contextlib.ExitStack() as stack:
        sip = []
        for phone in phones:
            sip.append(stack.enter_context(_sipp(pbx, phone)))
            time.sleep(APART_S)
        stack.enter_context(_ahead())
        began = due = time.time()
        while not all(phone.over for phone in phones):
            due += FRAME / RATE
            while (left := due - time.time()) > 0:
                ready, _, _ = select.select([p.socket for p in phones], [], [], left)
                for phone in phones:
                    if phone.socket in ready:
                        phone.receive()
            now = time.time()
            for phone, process in zip(phones, sip, strict=True):
                phone.receive()
                phone.tick(now, due)
                if process.poll() is not None and not phone.over:
                    raise LabError(f"the call to {phone.extension} ended before its script")
            if now > began + ANSWER_S and any(not p.sent for p in phones):
                raise LabError(f"no audio came within {ANSWER_S:.0f} s of a call")
            if now > began + most_s:
                raise LabError(f"calls of the bench took longer than {most_s:.0f} s")
        pbx.cli("channel request hangup all")
        for process in sip:
            process.wait(10)
    for phone in phones:
        phone.socket.close()


@contextlib.contextmanager
def _ahead() -> Iterator[None]:
    """Ahead of other processes where that is allowed: a phone has a processor of its own."""
    before, how = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, before, how)


@contextlib.contextmanager
def _sipp(pbx: Asterisk, phone: Phone) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory(prefix="ari-bridge-phone-") as folder:
        path = Path(folder) / "call.xml"
        path.write_text(_with_keys(scenario(None, "PCMU")))
        process = subprocess.Popen(
            [
                *(program("sipp"), f"{pbx.bind}:{pbx.sip_port}", "-sf", path),
                *("-s", phone.extension, "-m", "1", "-nostdin"),
                *("-key", "rtp_port", str(phone.port), "-i", "127.0.0.1"),
                *("-p", str(free_port(socket.SOCK_DGRAM)), "-mi", "127.0.0.1"),
                *("-mp", str(free_port(socket.SOCK_DGRAM))),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _with_keys(scenario: str) -> str:
    """Offer keys as well (RFC 4733)."""
    return scenario.replace("RTP/AVP 0\n", f"RTP/AVP 0 {EVENTS}\n").replace(
        "a=rtpmap:0 PCMU/8000\n",
        f"a=rtpmap:0 PCMU/8000\n      a=rtpmap:{EVENTS} telephone-event/8000\n",
    )
