"""Every codec through the real media process, both ways, as wide as it promises."""

import asyncio
import itertools
import time

import numpy as np
import pytest

from bridge.audio import g722
from bridge.audio.codecs import CODECS, down
from bridge.errors import MediaError
from bridge.media import control
from bridge.media.client import MediaClient
from bridge.media.server import Server, _Worker
from bridge.media.settings import MediaSettings
from tests.integration.media_lab import Phone, media_process

ONE = np.zeros(1, np.intp)
LEVEL = 8000


def tone(rate, seconds, hz):
    t = np.arange(int(rate * seconds)) / rate
    return np.rint(LEVEL * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def strongest(pcm, rate):
    """Of the loudest half second: its frequency (Hz), its level beside what was said (dB)."""
    n = rate // 2
    power = np.convolve(pcm.astype(float) ** 2, np.ones(n), "valid")
    part = pcm[(at := int(power.argmax())) : at + n].astype(float)
    hz = float(np.abs(np.fft.rfft(part * np.hanning(n))).argmax()) * rate / n
    return hz, 20 * np.log10(part.std() * np.sqrt(2) / LEVEL)


class Caller:
    """Speaks a codec as Asterisk's external media sends it, hears what it takes back."""

    def __init__(self, name):
        self.codec = CODECS[name]
        self.phone = Phone(self.codec.payload_type)
        self.encoder, self.decoder = self.codec.make(), down(self.codec).make()

    async def speak(self, to, pcm):
        start = time.monotonic()
        step = self.codec.clock_rate // 50
        for n, frame in enumerate(pcm.reshape(-1, self.codec.sample_rate // 50)):
            self.phone.send(to, self.encoder.encode(ONE, frame[None])[0].tobytes(), step)
            await asyncio.sleep(max(0, start + 0.02 * (n + 1) - time.monotonic()))

    def heard(self):
        got = self.phone.received()
        assert {kind for _, kind, *_ in got} == {down(self.codec).payload_type}
        assert {(b[3] - a[3]) % 2**32 for a, b in itertools.pairwise(got)} == {160}
        payloads = [np.frombuffer(payload, np.uint8)[None] for *_, payload in got]
        size = [np.array([p.shape[1]]) for p in payloads]
        return np.concatenate(
            [self.decoder.decode(ONE, p, n)[0] for p, n in zip(payloads, size, strict=True)]
        )


@pytest.fixture(scope="module")
def media():
    with media_process() as (folder, _):
        yield folder


@pytest.mark.parametrize("rate", [0, 24000])
@pytest.mark.parametrize("name", CODECS)
async def test_both_ways(media, name, rate):
    wide = CODECS[name].sample_rate > 8000
    up_hz, down_hz = (6000, 6500) if wide else (1000, 1500)
    client = await MediaClient.connect(media, "w1")
    caller = Caller(name)
    slot = await client.open("c1", caller.phone.address, name, rate)
    assert slot.rate == (rate or CODECS[name].sample_rate)
    ups = []
    slot.on_frames = ups.append
    slot.play(1, tone(slot.rate, 0.8, down_hz))
    slot.done(1)
    await caller.speak(client.address, tone(CODECS[name].sample_rate, 1.0, up_hz))
    pcm = np.concatenate([u.pcm.ravel() for u in ups])
    hz, level = strongest(pcm, slot.rate)
    assert abs(hz - up_hz) <= 4
    assert level == pytest.approx(0, abs=1)
    hz, level = strongest(caller.heard(), down(CODECS[name]).sample_rate)
    assert abs(hz - down_hz) <= 4
    assert level == pytest.approx(0, abs=1)
    assert slot.stats()["wrong_type"] == slot.stats()["lost"] == 0
    await slot.close()
    await client.close()
    caller.phone.close()


async def test_a_codec_without_its_library_is_refused_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.setattr(g722, "G722", None)
    server = Server(MediaSettings(port=0, runtime_dir=str(tmp_path)))
    try:
        asked = {"call_id": "c1", "remote": ["127.0.0.1", 9000], "codec": "OPUS"}
        ours, theirs = control.new_socket(), control.new_socket()
        answer = server._open(_Worker(theirs, 1), asked, [])
        assert answer == {
            "error": "codec",
            "message": "G.722 needs the package G722: pip install G722",
        }
        ours.close()
        theirs.close()
    finally:
        server.close()


async def test_an_unknown_codec_is_refused(media):
    client = await MediaClient.connect(media, "w1")
    with pytest.raises(MediaError, match="codec GSM is none of PCMU"):
        await client.open("c1", ("127.0.0.1", 9000), "GSM", 8000)
    await client.close()
