import asyncio
import base64
import contextlib

import numpy as np
import pytest
from aiohttp import web

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines import socket, stream
from bridge.engines.base import (
    Audio,
    Digit,
    Entry,
    Failed,
    Interrupt,
    ItemDone,
    Mark,
    Marked,
    ReplyDone,
    Resume,
    ToolCall,
)
from bridge.engines.twilio import TwilioEngine, TwilioSettings, signature
from bridge.errors import EngineError
from tests.unit.engines.bot import Bot, Call

VOICE = decode_ulaw(encode_ulaw((np.sin(np.arange(160) / 7) * 9000).astype(np.int16)))


def engine(bot, **settings):
    return TwilioEngine(TwilioSettings(bot.url, **settings))


def media(pcm):
    payload = base64.b64encode(encode_ulaw(pcm).tobytes()).decode()
    return {"event": "media", "streamSid": "MZ1", "media": {"payload": payload}}


async def test_the_stream_opens_as_twilio_opens_it():
    async with Bot() as bot, Call(engine(bot), variables={"order": "4217"}) as call:
        call.engine.hear(4000, VOICE)
        call.engine.hear(4020, VOICE)
        await bot.until(lambda: len(bot.got) == 4)
    connected, start, first, second = bot.got[:4]
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    sid = start["streamSid"]
    assert start["event"] == "start"
    assert start["sequenceNumber"] == "1"
    assert start["start"]["mediaFormat"] == {
        "encoding": "audio/x-mulaw",
        "sampleRate": 8000,
        "channels": 1,
    }
    assert start["start"]["customParameters"] == {"order": "4217"}
    assert start["start"]["streamSid"] == sid
    assert [first["sequenceNumber"], second["sequenceNumber"]] == ["2", "3"]
    assert [first["media"]["chunk"], second["media"]["chunk"]] == ["1", "2"]
    assert [first["media"]["timestamp"], second["media"]["timestamp"]] == ["0", "20"]
    assert first["streamSid"] == sid
    heard = np.frombuffer(base64.b64decode(first["media"]["payload"]), np.uint8)
    assert np.array_equal(decode_ulaw(heard), VOICE)
    stop = bot.got[4]
    assert (stop["event"], stop["sequenceNumber"]) == ("stop", "4")
    assert stop["stop"]["callSid"] == start["start"]["callSid"]


async def test_what_the_bot_says_is_played_and_its_marks_are_kept_in_order():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(media(VOICE))
        await bot.say(media(VOICE[:50]))
        await bot.say({"event": "mark", "streamSid": "MZ1", "mark": {"name": "one"}})
        await bot.say(media(VOICE))
        await bot.until(lambda: len(call.of(Audio)) == 3)
    assert [type(e) for e in call.events] == [Audio, Audio, ItemDone, ReplyDone, Mark, Audio]
    assert call.of(Mark) == [Mark("one")]
    assert np.array_equal(np.concatenate([a.pcm for a in call.of(Audio)[:2]])[:160], VOICE)
    assert [a.item for a in call.of(Audio)] == [1, 1, 2]


async def test_clear_interrupts():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(media(VOICE))
        await bot.say({"event": "clear", "streamSid": "MZ1"})
        await bot.say(media(VOICE))
        await bot.until(lambda: len(call.of(Audio)) == 2)
    assert [type(e) for e in call.events[:3]] == [Audio, Interrupt, Audio]
    assert [a.item for a in call.of(Audio)] == [1, 2]


async def test_keys_and_marks_come_back():
    async with Bot() as bot, Call(engine(bot)) as call:
        call.engine.notify(Digit("5"))
        call.engine.notify(Marked("one", heard=True))
        await bot.until(lambda: len(bot.got) == 4)
    assert bot.got[2]["dtmf"] == {"track": "inbound_track", "digit": "5"}
    assert bot.got[3]["event"] == "mark"
    assert bot.got[3]["mark"] == {"name": "one"}


async def test_an_utterance_is_over_when_nothing_more_comes():
    async with Bot() as bot, Call(engine(bot)) as call:
        call.engine.hear(1000, VOICE)
        await bot.say(media(VOICE))
        await bot.until(lambda: call.of(Audio))
        call.engine.hear(1000 + stream.GAP_MS - 20, VOICE)
        assert not call.of(ItemDone)
        call.engine.hear(1000 + stream.GAP_MS, VOICE)
    assert call.of(ItemDone) == [ItemDone(1)]


@pytest.mark.parametrize(
    "garbage",
    [
        "not JSON",
        "[]",
        "{}",
        '{"event":"media"}',
        '{"event":"media","media":{"payload":"*"}}',
        '{"event":"media","media":{"payload":7}}',
        '{"event":"mark","mark":null}',
        '{"event":["x"]}',
        '{"event":"unheard-of"}',
    ],
)
async def test_garbage_is_ignored(garbage, caplog):
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(garbage)
        await bot.say(media(VOICE))
        await bot.until(lambda: call.of(Audio))
    assert not call.of(Failed)
    assert "ignored" in caplog.text


async def test_a_bot_that_closes_gives_the_caller_back():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(media(VOICE))
        await bot.until(lambda: call.of(Audio))
        await bot.socket.close()
        await bot.until(lambda: call.of(ToolCall))
    assert [type(e) for e in call.events][:2] == [Audio, ItemDone]
    assert not call.of(Failed)


async def test_a_bot_that_dies_is_a_failure():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.connected.wait()
        bot.socket._req.transport.abort()
        await bot.until(lambda: call.of(Failed))
        assert bot.url in call.of(Failed)[0].reason
    assert not call.of(ToolCall)


async def test_a_bot_that_closes_with_an_error_is_a_failure():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.connected.wait()
        await bot.socket.close(code=1011)
        await bot.until(lambda: call.of(Failed))
    assert "1011" in call.of(Failed)[0].reason


async def test_a_bot_that_does_not_read_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "STALL_S", 0.05)

    async def deaf(bot, message):
        await asyncio.Event().wait()

    async with Bot(deaf) as bot, Call(engine(bot)) as call:
        noise = np.tile(VOICE, 400)
        async with asyncio.timeout(10):
            while not call.of(Failed):
                call.engine.hear(0, noise)
                await asyncio.sleep(0)
        assert "didn't read" in call.of(Failed)[0].reason
        assert call.engine._socket.refused


async def test_nobody_there_is_one_line():
    async with Bot() as bot:
        url = bot.url + "?token=secret"
    with pytest.raises(
        EngineError, match=r"can't connect to the bot at ws://127\.0\.0\.1"
    ) as error:
        async with Call(TwilioEngine(TwilioSettings(url))):
            pass
    assert "secret" not in str(error.value)


async def test_a_refusal_says_so():
    async def refuse(request):
        return web.Response(status=403)

    async with Bot(hand_shake=refuse) as bot:
        with pytest.raises(EngineError, match="403"):
            async with Call(engine(bot)):
                pass


async def test_a_bot_that_never_answers_is_given_up():
    async def sleep(request):
        await asyncio.sleep(60)

    async with Bot(hand_shake=sleep) as bot:
        with pytest.raises(EngineError, match=r"within 0\.1 s"):
            async with Call(engine(bot, connect_timeout_s=0.1)):
                pass


async def test_the_connection_is_signed(monkeypatch):
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "12345")
    async with Bot() as bot, Call(engine(bot)):
        await bot.connected.wait()
        assert bot.headers["X-Twilio-Signature"] == signature("12345", bot.url)


def test_the_signature_is_twilios():
    # The example of Twilio's own libraries' tests.
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, form) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


async def test_a_resumed_call_says_what_it_goes_on_with():
    history = [Entry("agent", "Hello."), Entry("caller", "Hi.")]
    async with Bot() as bot, Call(engine(bot), history=history, resume=Resume()) as call:
        await bot.until(lambda: len(bot.got) == 2)
        start = bot.got[1]["start"]
    assert start["customParameters"]["resumeOf"] == start["callSid"]
    assert start["customParameters"]["resumeAt"] == "2"
    assert call.engine.turns == "engine"


@pytest.mark.parametrize("url", ["http://x/", "x", ""])
def test_the_address_is_a_websockets(url):
    with pytest.raises(ValueError, match="ws://"):
        TwilioSettings(url)


async def test_many_at_once_are_sent_what_each_alone_would_be():
    bots = [Bot() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for bot in bots:
            await stack.enter_async_context(bot)
        engines = [(await stack.enter_async_context(Call(engine(bot)))).engine for bot in bots]
        voices = np.stack([VOICE, VOICE[::-1], VOICE])
        for n, alone in enumerate(engines):
            alone.hear(100 * n, voices[n])
        times = [20, 120, 220]
        assert TwilioEngine.hear_many(engines, times, voices[::-1]) == []
        await engines[2].close()
        await bots[0].say(media(VOICE))
        await bots[0].until(lambda: engines[0]._stream.over_ms == 20 + stream.GAP_MS)
        times = [20 + stream.GAP_MS, 140, 240]
        left = TwilioEngine.hear_many(engines, times, voices)
        assert list(left) == [0, 2], "an utterance is over; nobody is there"
        for bot, count in zip(bots, (4, 5, 5), strict=True):
            await bot.until(lambda bot=bot, count=count: len(bot.got) >= count)
    for n, bot in enumerate(bots):
        got = [one["media"] for one in bot.got if one["event"] == "media"]
        assert [one["timestamp"] for one in got] == ["0", "20", "40"][: 3 if n == 1 else 2]
        assert [one["chunk"] for one in got] == ["1", "2", "3"][: len(got)]
        sound = [base64.b64decode(one["payload"]) for one in got]
        said = [voices[n], voices[::-1][n], voices[n]][: len(got)]
        assert sound == [encode_ulaw(pcm).tobytes() for pcm in said]
