"""What the caller's phone really sent and received: a packet capture, and its sound on one clock.

Every figure "at the caller" comes from here, never from the bridge's own logs. tcpdump watches the
phone's RTP ports; its packets are kept as a .pcap file and read live at the same time, with the
kernel's time of each packet (epoch seconds).

`Track` turns one direction into sound. Its clock is the capture's: samples follow each other by
their RTP timestamps, but where a stream begins and whether it paused is decided by arrival times,
so that gaps and pauses show as they were. Two conventions, both the cautious ones:

- a received sample can be heard when its packet has come, not before;
- a sent sample was spoken before its packet left: a packet's *last* sample has its sending time.
"""

import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import dpkt
import numpy as np
import numpy.typing as npt

from tests.lab.root import LabError

RATE = 8000  # samples a second of a Track, and the RTP clock rate of G.711
PCMU, PCMA = 0, 8  # RFC 3551 table 4
SNAP_BYTES, BUFFER_KIB = 2048, 16384  # no RTP packet is longer; 8000 of them
CURE = "run this as root, or as somebody who may use sudo without a password"
DTMF_NAMES = "0123456789*#ABCD"  # RFC 4733 table 3: events 0 to 15

Pcm = npt.NDArray[np.int16]


class RtpPacket(NamedTuple):
    """One RTP packet on the wire.

    `at` is the capture's time in epoch seconds, `port` the phone's own UDP port, `sent` True where
    the phone was the sender.
    """

    at: float
    port: int
    sent: bool
    pt: int
    marker: bool
    seq: int
    ts: int
    ssrc: int
    payload: bytes


def parse_frame(at: float, frame: bytes, ports: range) -> RtpPacket | None:
    """The RTP packet in an Ethernet frame to or from one of the phone's `ports`, or None.

    RTCP on the same ports is left out by its packet types 192 to 223 (RFC 5761 section 4).
    """
    ip = dpkt.ethernet.Ethernet(frame).data
    if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.udp.UDP):
        return None
    udp = ip.data
    data = bytes(udp.data)
    sent = udp.sport in ports
    if not sent and udp.dport not in ports:
        return None
    if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
        return None
    flags, kind, seq, ts, ssrc = struct.unpack_from("!BBHII", data)  # RFC 3550 section 5.1
    body = 12 + 4 * (flags & 0x0F)
    if flags & 0x10:  # a header extension: its length in words (5.3.1)
        body += 4 + 4 * int.from_bytes(data[body + 2 : body + 4], "big")
    end = len(data) - (data[-1] if flags & 0x20 else 0)  # the last octet counts the padding
    port = udp.sport if sent else udp.dport
    return RtpPacket(at, port, sent, kind & 0x7F, bool(kind & 0x80), seq, ts, ssrc, data[body:end])


def read_pcap(file: IO[bytes], ports: range) -> Iterable[RtpPacket]:
    """The RTP packets of a capture file, or of a pipe from a running tcpdump."""
    for at, frame in dpkt.pcap.Reader(file):
        packet = parse_frame(float(at), frame, ports)
        if packet:
            yield packet


# ---- G.711 -------------------------------------------------------------------------------------


def _ulaw_table() -> Pcm:
    """The 256 PCMU code words as 16-bit samples (ITU-T G.711 table 2a, scaled by 4)."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 15) << 3) + 132 << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Pcm:
    """The 256 PCMA code words as 16-bit samples (ITU-T G.711 table 1a, scaled by 8)."""
    code = np.arange(256) ^ 0x55
    exponent = code >> 4 & 7
    mantissa = ((code & 15) << 4) + 8
    magnitude = np.where(exponent > 0, mantissa + 256 << np.maximum(exponent - 1, 0), mantissa)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


# The judge has tables of its own: it must not inherit a mistake from what it judges.
TABLES = {PCMU: _ulaw_table(), PCMA: _alaw_table()}


def decode(packet: RtpPacket) -> Pcm | None:
    """A G.711 packet as 8 kHz samples; None for any other payload type."""
    table = TABLES.get(packet.pt)
    return None if table is None else table[np.frombuffer(packet.payload, np.uint8)]


# ---- one direction as sound --------------------------------------------------------------------

# How far ahead a packet looks for one that came with less delay: longer than a stall that a burst
# makes good, and short beside a conversation.
LOOKAHEAD = 25
# Placement follows a changed delay only by more than this: every move is a click.
HYSTERESIS = 5 * RATE // 1000


@dataclass(frozen=True)
class Track:
    """One direction of one call as sound.

    pcm: int16 samples at 8 kHz, zero where nothing was received
    start: epoch seconds of pcm[0]
    at, first, size: of each audio packet (by rising `first`): time at the capture in epoch
        seconds, index of its first sample in `pcm`, number of samples
    sent: which direction
    foreign: number of packets whose payload type is not G.711 nor a telephone-event
    """

    pcm: Pcm
    start: float
    at: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    sent: bool
    foreign: int = 0

    def time(self, sample: int) -> float:
        """Epoch seconds of a sample: spoken (sent), or audible at the earliest (received)."""
        when = self.start + sample / RATE
        k = int(np.searchsorted(self.first, sample, "right")) - 1
        if self.sent or k < 0 or sample >= self.first[k] + self.size[k]:
            return when
        late = self.at[k] - (self.start + self.first[k] / RATE)
        return float(when + max(0.0, late))

    def index(self, when: float) -> int:
        """The sample at `when` (epoch seconds), inside the track."""
        return min(max(round((when - self.start) * RATE), 0), len(self.pcm))

    def packet_gap(self) -> float:
        """Longest time without an audio packet, in seconds."""
        return float(np.diff(np.sort(self.at)).max()) if len(self.at) > 1 else float("inf")


def _runs(packets: Sequence[RtpPacket], sizes: Sequence[int]) -> Iterable[slice]:
    """Slices of packets whose timestamps go on as their sequence numbers say."""
    begin = 0
    for k in range(1, len(packets)):
        a, b = packets[k - 1], packets[k]
        steps = (b.seq - a.seq + 0x8000) % 0x10000 - 0x8000
        ticks = (b.ts - a.ts + 0x80000000) % 0x100000000 - 0x80000000
        unit = sizes[k - 1] if steps > 0 else sizes[k]
        if a.ssrc != b.ssrc or ticks != steps * unit:
            yield slice(begin, k)
            begin = k
    yield slice(begin, len(packets))


def _place(packets: Sequence[RtpPacket], sizes: Sequence[int], zero: float) -> list[int]:
    """Sample index (from epoch second `zero`) of each packet's first sample.

    Within a run a packet is placed by its timestamp at the least delay that it or one of the next
    packets had: a late packet that the next ones catch up with stays where it belongs, and a pause
    of the sender moves everything after it.
    """
    places: list[int] = []
    for run in _runs(packets, sizes):
        base = packets[run.start].ts
        ticks = np.array(
            [(p.ts - base + 0x80000000) % 0x100000000 - 0x80000000 for p in packets[run]]
        )
        delay = np.array([(p.at - zero) * RATE for p in packets[run]]) - ticks
        padded = np.append(delay, np.full(LOOKAHEAD, np.inf))
        least = np.lib.stride_tricks.sliding_window_view(padded, LOOKAHEAD + 1).min(axis=1)
        offset = least[0]
        for tick, target in zip(ticks, least, strict=True):
            if abs(target - offset) > HYSTERESIS:
                offset = target
            places.append(round(offset + tick))
    return places


def lay_out(packets: Iterable[RtpPacket], *, sent: bool, start: float, end: float) -> Track:
    """The packets of one direction as a `Track` from `start` to `end` (epoch seconds)."""
    chosen = [p for p in packets if p.sent == sent and start <= p.at <= end]
    sounds = [(p, pcm) for p in chosen if (pcm := decode(p)) is not None and len(pcm)]
    foreign = sum(p.pt not in TABLES and not _is_telephone_event(p) for p in chosen)
    audio = [p for p, _ in sounds]
    sizes = [len(pcm) for _, pcm in sounds]
    places = _place(audio, sizes, start) if audio else []
    if sent:
        places = [place - size for place, size in zip(places, sizes, strict=True)]
    pcm = np.zeros(max(round((end - start) * RATE), 0), np.int16)
    for place, (_, sound) in zip(places, sounds, strict=True):
        cut = sound[max(-place, 0) : max(len(pcm) - place, 0)]
        pcm[max(place, 0) : max(place, 0) + len(cut)] = cut
    order = np.argsort(np.array(places, np.int64), kind="stable")
    return Track(
        pcm,
        start,
        np.array([p.at for p in audio])[order] if audio else np.empty(0),
        np.array(places, np.int64)[order],
        np.array(sizes, np.int64)[order],
        sent,
        foreign,
    )


class Digit(NamedTuple):
    """One DTMF digit on the wire: its first packet, and the first that says it is over.

    Epoch seconds. Who receives it may act on its end from then on; the end is repeated (RFC 4733
    2.5.1.4).
    """

    digit: str
    start: float
    end: float


def _is_telephone_event(packet: RtpPacket) -> bool:
    # Payload types 96 to 127 are dynamic; an event is 4 octets (RFC 4733 2.3), speech never is.
    return packet.pt >= 96 and len(packet.payload) == 4


def digits(packets: Iterable[RtpPacket], *, sent: bool = True) -> list[Digit]:
    """The DTMF digits of one direction (RFC 4733): packets of one digit share a timestamp."""
    found: dict[tuple[int, int], Digit] = {}
    over: set[tuple[int, int]] = set()
    for p in packets:
        if p.sent == sent and _is_telephone_event(p) and p.payload[0] < len(DTMF_NAMES):
            key = p.ssrc, p.ts
            if key not in over:
                first = found.get(key, Digit(DTMF_NAMES[p.payload[0]], p.at, p.at))
                found[key] = first._replace(end=p.at)
            if p.payload[1] & 0x80:
                over.add(key)
    return list(found.values())


def entropy(packets: Iterable[RtpPacket], *, sent: bool) -> float:
    """Bits of information a payload octet of one direction carries, 0 to 8.

    Encrypted payload is near 8 whatever is said; G.711 speech with its pauses is far below.
    """
    octets = np.frombuffer(b"".join(p.payload for p in packets if p.sent == sent), np.uint8)
    share = np.bincount(octets, minlength=256) / max(len(octets), 1)
    return float(-np.sum(share[share > 0] * np.log2(share[share > 0])))


# ---- the live capture --------------------------------------------------------------------------


class _Tee:
    """A file that keeps a copy of all that is read from it."""

    def __init__(self, source: IO[bytes], copy: IO[bytes]) -> None:
        self._source, self._copy = source, copy

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._copy.write(data)
        return data


@dataclass
class Capture:
    """tcpdump on the phone's RTP ports, live and into `path`; needs root, or sudo without password.

    `packets` grows while the capture runs; `listener` is called with each packet, in the capture's
    own thread. Use as a context manager: `packets` is whole after its end.
    """

    path: Path
    ports: range
    program: str = "tcpdump"
    interface: str = "lo"
    listener: Callable[[RtpPacket], None] | None = None
    address: str = ""
    """The phone's; any if empty. The same ports may be another program's on another address."""
    packets: list[RtpPacket] = field(default_factory=list)

    def _command(self) -> list[str]:
        expression = f"udp portrange {self.ports.start}-{self.ports.stop - 1}"
        if self.address:
            expression += f" and host {self.address}"
        command = [self.program, "-i", self.interface, "-n", "-U", "--immediate-mode", "-w", "-"]
        # In immediate mode the kernel keeps a whole snap length for each packet: without these it
        # has room for 32 of them, and drops what comes while we are held up.
        command += ["-s", str(SNAP_BYTES), "-B", str(BUFFER_KIB)]
        if os.geteuid() == 0:
            command += ["-Z", "root"]  # the private root has no user of tcpdump's own
        else:
            if not shutil.which("sudo"):
                raise LabError(f"capturing packets needs root: {CURE}")
            command = ["sudo", "-n", *command]
        return [*command, expression]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)
        # "listening on lo, ..." is its first word, and means that from now on nothing is missed.
        assert self._process.stderr
        said = b""
        while b"listening on" not in said:
            line = self._process.stderr.readline()
            said += line
            if not line:
                self._process.wait()
                reason = said.decode(errors="replace").strip().splitlines()[-1:]
                raise LabError(f"tcpdump can't capture ({' '.join(reason)}): {CURE}")
        self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout
        with self.path.open("wb") as copy:
            for packet in read_pcap(_Tee(self._process.stdout, copy), self.ports):  # type: ignore[arg-type]
                self.packets.append(packet)
                if self.listener:
                    self.listener(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        time.sleep(0.05)  # the last packets are on their way through the kernel's buffer
        if os.geteuid() == 0:
            self._process.terminate()
        else:  # sudo belongs to root, and hands the signal on
            subprocess.run(["sudo", "-n", "kill", str(self._process.pid)], check=True)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            pipe.close()
