import asyncio
import contextlib

import numpy as np
import pytest
from wyoming.audio import AudioChunk
from wyoming.error import Error

from bridge.agent import Agent
from bridge.engines import wyoming
from bridge.engines.base import Shared
from bridge.engines.wyoming import stt, tts
from bridge.errors import ConfigError, EngineError, EngineLost
from tests.standins.openai import DROP, HANG
from tests.standins.wyoming import Wyoming

AGENT = Agent("a", language="de")
TONE = np.tile(np.array([3000] * 20 + [-3000] * 20, np.int16), 200)


@contextlib.asynccontextmanager
async def part(make, server, **table):
    shared = Shared()
    yield await make({"url": server.url, **table}, "a.toml: [x]", AGENT).prepare(shared)
    await shared.close()


async def say(speech, text="Hello.", first=True):
    return [piece async for piece in speech.say(text, first=first)]


async def test_an_utterance_goes_up_whole_and_its_words_come_back():
    async with Wyoming(" Guten Tag ") as server, part(stt, server, model="tiny") as ear:
        assert await ear.transcribe(TONE) == "Guten Tag"
    assert (server.asked[0].name, server.asked[0].language) == ("tiny", "de")
    np.testing.assert_array_equal(server.heard[0], TONE)


async def test_a_sentence_comes_down_at_our_rate():
    async with Wyoming([TONE, TONE]) as server, part(tts, server, voice="joe") as voice:
        found = np.concatenate(await say(voice))
    assert abs(len(found) - 2 * len(TONE) * 16000 / 22050) <= 1
    assert 2500 < np.abs(found[1000:-1000]).mean() < 3500
    assert (server.asked[0].text, server.asked[0].voice.name) == ("Hello.", "joe")


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_at_rates_that_streams_can_have_it_comes_as_it_is_made(monkeypatch, rate):
    monkeypatch.setattr(Wyoming, "rate", rate)
    async with Wyoming([TONE, HANG]) as server, part(tts, server) as voice:
        pieces = voice.say("Hello.", first=True)
        first = await anext(pieces)
        assert abs(len(first) - len(TONE) * 16000 / rate) < 100
        assert not server.gone.is_set()
        await pieces.aclose()
        async with asyncio.timeout(5):
            await server.gone.wait()


async def test_what_is_always_said_is_asked_for_once():
    async with Wyoming([TONE], [TONE]) as server, part(tts, server) as voice:
        await voice.prepare(["Hello."])
        once, again = await say(voice), await say(voice)
        assert len(once) == len(again) > 1
        await say(voice, "Goodbye.")
    assert [asked.text for asked in server.asked] == ["Hello.", "Goodbye."]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (DROP, EngineLost, "no connection to the Wyoming server at tcp://127"),
        (Error("no such voice").event(), EngineError, "the Wyoming server says: no such voice"),
        (b"nonsense\n", EngineLost, "or what came isn't Wyoming"),
        (b"[1]\n", EngineError, "sent nonsense: AttributeError"),
        (b"{}\n", EngineError, "sent nonsense: KeyError"),
        (b'{"type": "audio-chunk", "payload_length": 4}\nab', EngineLost, "no connection"),
        (AudioChunk(16000, 2, 2, b"1234").event(), EngineError, "of 2 channels, 16 bits"),
    ],
)
async def test_what_goes_wrong_is_one_line(answer, kind, words):
    async with Wyoming([answer, DROP]) as server, part(tts, server) as voice:
        with pytest.raises(kind, match=words) as caught:
            await say(voice)
    assert len(str(caught.value).splitlines()) == 1
    if type(answer) is not bytes and kind is EngineLost:
        async with Wyoming(answer) as server, part(stt, server) as ear:
            with pytest.raises(kind, match=words):
                await ear.transcribe(TONE)


@pytest.mark.parametrize("make", [stt, tts])
async def test_a_server_that_is_not_there_is_found_out_before_any_call(make):
    with pytest.raises(EngineLost, match="no connection to the Wyoming server at tcp://127"):
        await make({"url": "tcp://127.0.0.1:1"}, "a", AGENT).prepare(Shared())
    with pytest.raises(ConfigError, match=r"'url' is 'http://a'; it takes tcp://host:port"):
        make({"url": "http://a"}, "a.toml: [x]", AGENT)


async def test_a_server_that_does_not_read_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(wyoming, "ANSWER_S", 0.1)
    monkeypatch.setattr(wyoming, "CLOSE_S", 0.1)
    done = asyncio.Event()

    async def frozen(reader, writer):
        writer.transport.pause_reading()
        await done.wait()
        writer.close()

    server = await asyncio.start_server(frozen, "127.0.0.1", 0)
    url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    shared = Shared()
    ear = await stt({"url": url}, "a", AGENT).prepare(shared)
    async with asyncio.timeout(5):
        with pytest.raises(EngineLost, match="no connection to the Wyoming server"):
            await ear.transcribe(np.zeros(10_000_000, np.int16))
    done.set()
    server.close()
    await shared.close()
