import asyncio
import contextlib

import numpy as np
import pytest

from bridge.agent import Agent
from bridge.engines.base import Shared
from bridge.engines.tts_http import cartesia, deepgram
from bridge.errors import ConfigError, EngineLost, EngineMissing, EngineRefused
from tests.standins.cartesia import Cartesia
from tests.standins.deepgram import Deepgram
from tests.standins.openai import DROP, HANG
from tests.standins.server import Server

TONE = np.tile(np.array([3000] * 20 + [-3000] * 20, np.int16), 100)
BOTH = pytest.mark.parametrize(
    ("make", "server"), [(cartesia, Cartesia), (deepgram, Deepgram)], ids=["cartesia", "deepgram"]
)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("CARTESIA_API_KEY", Server.key)
    monkeypatch.setenv("DEEPGRAM_API_KEY", Server.key)


@contextlib.asynccontextmanager
async def voice(make, server):
    shared = Shared()
    table = {"voice": "v-1"} if make is cartesia else {"model": "v-1"}
    part = make({**table, "url": server.url}, "a.toml: [tts]", Agent("a", language="es"))
    yield await part.prepare(shared)
    await shared.close()


async def say(speech):
    return [piece async for piece in speech.say("Hola.", first=True)]


@BOTH
async def test_a_sentence_comes_as_it_is_made(make, server):
    async with server([TONE, TONE], [TONE, HANG]) as far, voice(make, far) as speech:
        np.testing.assert_array_equal(np.concatenate(await say(speech)), [*TONE, *TONE])
        pieces = speech.say("Hola.", first=True)
        assert len(await anext(pieces))
        assert not far.gone.is_set()
        await pieces.aclose()
        async with asyncio.timeout(5):
            await far.gone.wait()
        asked = far.requests[0]
    if make is cartesia:
        assert (asked["transcript"], asked["voice"], asked["language"]) == (
            "Hola.",
            {"id": "v-1"},
            "es",
        )
    else:
        assert (asked["text"], asked["model"], asked["encoding"]) == ("Hola.", "v-1", "linear16")


@BOTH
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (402, EngineRefused, "refuses with status 402: That is not to be had"),
        ([TONE, DROP], EngineLost, "no connection to .* at http://127"),
    ],
)
async def test_what_goes_wrong_is_one_line(make, server, answer, kind, words):
    async with server(answer) as far, voice(make, far) as speech:
        with pytest.raises(kind, match=words) as caught:
            await say(speech)
    assert len(str(caught.value).splitlines()) == 1


@BOTH
async def test_keys(monkeypatch, make, server):
    name = "CARTESIA_API_KEY" if make is cartesia else "DEEPGRAM_API_KEY"
    async with server() as far, voice(make, far) as speech:
        monkeypatch.setenv(name, "wrong")
        with pytest.raises(EngineRefused, match=f"refuses the key in {name}: Invalid"):
            await say(speech)
        await far.refuse()
        with pytest.raises(EngineLost, match="no connection to"):
            await say(speech)
    monkeypatch.delenv(name)
    with pytest.raises(EngineMissing, match=f"set the environment variable {name}"):
        await make({"voice": "v"} if make is cartesia else {}, "a", Agent("a")).prepare(Shared())


def test_cartesia_needs_a_voice():
    with pytest.raises(ConfigError, match=r"a.toml: \[tts\]: 'voice' is missing"):
        cartesia({}, "a.toml: [tts]", Agent("a"))
