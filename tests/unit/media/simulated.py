"""A plane on a simulated link: synthetic time, packets that come when and as the test says."""

import struct
from collections import deque

import numpy as np

from bridge.audio import g711
from bridge.media.plane import Plane
from bridge.media.slots import FRAME_MS, SlotMap
from bridge.media.udp import BATCH, ROOM

IP = 0x7F000001


class SimulatedLink:
    """Stands in for the socket: `inbox` holds (datagram, port)."""

    def __init__(self, calls):
        self.buffer = np.zeros((BATCH, ROOM), np.uint8)
        self.out = np.zeros((calls, 700), np.uint8)
        self.inbox, self.sent, self.errors = deque(), [], 0

    def set_remote(self, call, ip, port):
        pass

    def receive(self):
        lengths, keys = [], []
        while self.inbox and len(lengths) < BATCH:
            data, port = self.inbox.popleft()
            kept = data[:ROOM]
            self.buffer[len(lengths), : len(kept)] = np.frombuffer(kept, np.uint8)
            lengths.append(len(data))
            keys.append(port << 32 | IP)
        return len(lengths), np.array(lengths, np.int64), np.array(keys, np.int64)

    def send(self, calls, length):
        for row, call in enumerate(calls.tolist()):
            self.sent.append((call, self.out[row, : int(length)].tobytes()))
        return len(calls)


def packet(seq, ts, payload, kind=0, marker=False, ssrc=0x51):
    first = kind | (0x80 if marker else 0)
    header = struct.pack(">BBHII", 0x80, first, seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc)
    return header + payload


class Simulation:
    """Calls of PCMU at ports 1, 2, …; time begins at 0."""

    def __init__(self, folder, calls=1, **options):
        self.slots = SlotMap.create(folder / "slots", calls, 1000)
        self.c = self.slots.columns
        self.link = SimulatedLink(calls)
        self.plane = Plane(self.slots, self.link, 0.0)
        self.now = 0.0
        for i in range(calls):
            assert self.plane.open(0.0, f"c{i}", (IP, i + 1), "PCMU", **options) == i
        self.read = [0] * calls
        self.frames = [[] for _ in range(calls)]
        self.flags = [[] for _ in range(calls)]

    def run_to(self, until, arrivals=()):
        """Tick every 5 ms; `arrivals`: (ms, datagram, port), sorted."""
        waiting = deque(arrivals)
        while self.now < until:
            self.now += 5
            while waiting and waiting[0][0] <= self.now:
                _, data, port = waiting.popleft()
                self.link.inbox.append((data, port))
            self.plane.tick(self.now)
            self._collect()
        return self

    def _collect(self):
        for call in range(len(self.read)):
            head = int(self.c["t_head"][call]) // (FRAME_MS * 8)
            for frame in range(self.read[call], head):
                at = frame % self.slots.up[8].shape[1]
                self.frames[call].append(self.slots.up[8][call, at].copy())
                self.flags[call].append(int(self.c["up_flags"][call, at]))
            self.read[call] = head

    def pcm(self, call=0):
        return np.concatenate(self.frames[call])

    def count(self, name, call=0):
        return int(self.c[f"n_{name}"][call])


_CODES = [c for c in range(256) if abs(int(g711.decode_ulaw(np.array([c], np.uint8))[0])) > 300]


def coded(k):
    """A frame that says its own number, in two constants that a blend at its beginning spares."""
    first, second = _CODES[k % len(_CODES)], _CODES[k // len(_CODES)]
    return bytes([first] * 80 + [second] * 80)


def level(k):
    """The PCM of the first half of frame k."""
    return int(g711.decode_ulaw(np.array([_CODES[k % len(_CODES)]], np.uint8))[0])


def number(frame):
    """The k whose frame this is; None if it is nobody's."""
    first, second = frame[40:80], frame[80:]
    if (first != first[0]).any() or (second != second[0]).any():
        return None
    codes = g711.encode_ulaw(frame[[40, 80]])
    if not set(codes.tolist()) <= set(_CODES):
        return None
    return _CODES.index(codes[0]) + len(_CODES) * _CODES.index(codes[1])
