"""Codecs with a memory, in the plane: fresh where a stream begins, in step where one is lost."""

import struct
from collections import deque

import numpy as np
import pytest

from bridge.audio.codecs import CODECS
from bridge.media.plane import Plane
from bridge.media.slots import CONCEALED, SlotMap
from bridge.media.udp import BATCH, ROOM

IP, PORT, LINE = 0x7F000001, 9, 16
ONE = np.zeros(1, np.intp)


class Wire:
    """A socket of synthetic time; `inbox` holds datagrams from (IP, PORT)."""

    def __init__(self):
        self.buffer = np.zeros((BATCH, ROOM), np.uint8)
        self.out = np.zeros((1, 700), np.uint8)
        self.inbox, self.errors = deque(), 0

    def set_remote(self, call, ip, port):
        pass

    def send(self, calls, length):
        return len(calls)

    def receive(self):
        lengths = []
        while self.inbox and len(lengths) < BATCH:
            data = self.inbox.popleft()
            self.buffer[len(lengths)] = 0xEE  # what an earlier packet left there
            self.buffer[len(lengths), : len(data)] = np.frombuffer(data, np.uint8)
            lengths.append(len(data))
        return len(lengths), np.array(lengths, np.int64), np.full(len(lengths), PORT << 32 | IP)


class Caller:
    """One call in one codec."""

    def __init__(self, folder, name):
        self.codec, self.wire = CODECS[name], Wire()
        self.slots = SlotMap.create(folder / "slots", 1, 1000)
        self.plane = Plane(self.slots, self.wire, 0.0)
        self.now = 0.0
        self.open()

    def open(self):
        self.frames, self.flags = [], []
        assert self.plane.open(self.now, "c", (IP, PORT), self.codec.name) == 0

    def packets(self, pcm, seq=100, ssrc=1):
        """(datagram, payload) of each 20 ms, by an encoder of its own."""
        encoder, step, made = self.codec.make(), self.codec.clock_rate // 50, []
        for n, frame in enumerate(pcm.reshape(-1, 20 * LINE)):
            payload = encoder.encode(ONE, frame[None])
            head = struct.pack(">BBHII", 0x80, self.codec.payload_type, seq + n, n * step, ssrc)
            made.append((head + payload.tobytes(), payload))
        return made

    def play(self, packets):
        """One each 20 ms; None: it got lost."""
        for packet in packets:
            if packet is not None:
                self.wire.inbox.append(packet[0])
            for _ in range(4):
                self.now += 5
                self.plane.tick(self.now)
            head = int(self.slots.columns["t_head"][0]) // (20 * LINE)
            for frame in range(len(self.frames), head):
                at = frame % self.slots.up[LINE].shape[1]
                self.frames.append(self.slots.up[LINE][0, at].copy())
                self.flags.append(int(self.slots.columns["up_flags"][0, at]))

    def decoded(self, packets):
        """What a fresh decoder makes of them; None: what it makes up."""
        decoder, out = self.codec.make(), []
        for packet in packets:
            if packet is None:
                out.append(decoder.conceal(ONE, 20 * LINE)[0])
            else:
                out.append(decoder.decode(ONE, packet[1], np.array([packet[1].shape[1]]))[0])
        return np.array(out)


def voice(seconds, hz, level=9000):
    t = np.arange(round(seconds * 1000 * LINE)) / 1000 / LINE
    beat = 1 + np.sin(2 * np.pi * 4 * t)
    return np.rint(level / 2 * beat * np.sin(2 * np.pi * hz * t)).astype(np.int16)


@pytest.fixture(params=["G722", "OPUS"])
def caller(request, tmp_path):
    return Caller(tmp_path, request.param)


def test_a_stream_is_one_stream(caller):
    sent = caller.packets(voice(0.6, 700))
    caller.play(sent)
    assert np.array_equal(caller.frames, caller.decoded(sent))
    assert not any(flags & CONCEALED for flags in caller.flags)


def test_another_ssrc_is_another_stream(caller):
    caller.play(caller.packets(voice(0.4, 3000, 20_000)))
    sent = caller.packets(voice(0.4, 500), seq=40_000, ssrc=2)
    before = len(caller.frames)
    caller.play(sent)
    # Its first packet alone changes nothing (anybody could send it); the second one begins.
    want = caller.decoded(sent[1:])
    got = np.array(caller.frames[before:])[-len(want) :]
    assert np.array_equal(got[2:], want[2:])


def test_another_call_in_the_slot_is_another_stream(caller):
    caller.play(caller.packets(voice(0.4, 3000, 20_000)))
    caller.plane.close(0)
    caller.open()
    sent = caller.packets(voice(0.4, 500), ssrc=2)
    caller.play(sent)
    assert np.array_equal(caller.frames, caller.decoded(sent))


def test_what_opus_lost_its_own_decoder_makes_up(tmp_path):
    caller = Caller(tmp_path, "OPUS")
    sent = caller.packets(voice(0.8, 500))
    sent[10] = sent[20] = sent[21] = None
    caller.play(sent)
    assert np.array_equal(caller.frames, caller.decoded(sent)[: len(caller.frames)])
    assert np.flatnonzero([flags & CONCEALED for flags in caller.flags]).tolist() == [10, 20, 21]
    assert caller.slots.columns["n_lost"][0] == 3


def test_what_g722_lost_is_concealed_and_the_stream_goes_on(tmp_path):
    caller = Caller(tmp_path, "G722")
    whole = caller.packets(voice(0.8, 500))
    sent = [None if n == 15 else packet for n, packet in enumerate(whole)]
    caller.play(sent)
    want = caller.decoded(whole)[: len(caller.frames)].astype(float)
    error = np.array(caller.frames) - want
    assert caller.flags[15] & CONCEALED
    assert error[15].std() < want[15].std() / 2, "better than silence by far"
    assert error[20:].std() < want[20:].std() / 10


def test_opus_packets_of_any_length_keep_audio_time(tmp_path):
    """DTX: a phone sends a byte or three for a silent frame; it counts as long as any other."""
    caller = Caller(tmp_path, "OPUS")
    sent = caller.packets(voice(0.4, 500))
    for n in (5, 6):
        head, payload = sent[n]
        sent[n] = (head[:12] + payload.tobytes()[:1], payload[:, :1])
    caller.play(sent)
    assert len(caller.frames) == len(sent)
    assert not caller.slots.columns["n_jump"][0]


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_opus_rubbish_is_survived(tmp_path, size):
    caller = Caller(tmp_path, "OPUS")
    rng = np.random.default_rng(size)
    sent = caller.packets(voice(2.0, 500))
    rubbish = [
        (head[:12] + rng.bytes(int(rng.integers(0, 60)) if size == 3 else size), payload)
        for head, payload in sent[:50]
    ]
    caller.play(rubbish)
    caller.play(sent[50:])
    assert np.abs(caller.frames[-1]).max() > 1000


def test_l16_at_24_khz_has_a_line_of_its_own(tmp_path):
    caller = Caller(tmp_path, "L16/24000")
    pcm = voice(0.9, 700)[: 20 * 480]
    codec = CODECS["L16/24000"]
    for n, frame in enumerate(pcm.reshape(-1, 480)):
        head = struct.pack(">BBHII", 0x80, codec.payload_type, n, n * 480, 7)
        caller.wire.inbox.append(head + frame.astype(">i2").tobytes())
        caller.plane.tick(20.0 * (n + 1))
    assert int(caller.slots.columns["t_head"][0]) == len(pcm)
    assert np.array_equal(caller.slots.up[24][0, :20].ravel(), pcm)
    assert caller.slots.columns["down_rate"][0] == 16
