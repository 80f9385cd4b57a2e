import numpy as np
import pytest

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines.base import (
    Audio,
    Digit,
    Interrupt,
    ItemDone,
    Mark,
    Marked,
    ReplyDone,
    SpeechStarted,
    ToolCall,
)
from bridge.engines.websocket import WebsocketEngine, WebsocketSettings
from tests.unit.engines.bot import Bot, Call

VOICE = (np.sin(np.arange(320) / 7) * 9000).astype(np.int16)


def engine(bot, **settings):
    return WebsocketEngine(WebsocketSettings(bot.url, **settings))


@pytest.mark.parametrize(
    ("name", "rate", "size"),
    [("ulaw", 8000, 160), ("slin", 8000, 320), ("slin16", 16000, 640), ("slin24", 24000, 960)],
)
async def test_the_connection_opens_as_asterisk_opens_it(name, rate, size):
    async with Bot() as bot, Call(engine(bot, format=name), variables={"order": "4217"}) as call:
        assert call.engine.rate == rate
        await bot.until(lambda: bot.got)
    start = bot.got[0]
    assert start.pop("connection_id")
    assert start == {
        "event": "MEDIA_START",
        "channel_id": "17.4",
        "channel": "WebSocket/17.4",
        "format": name,
        "optimal_frame_size": size,
        "ptime": 20,
        "channel_variables": {"order": "4217"},
    }


async def test_audio_goes_both_ways():
    async with Bot() as bot, Call(engine(bot)) as call:
        call.engine.hear(0, VOICE)
        await bot.until(lambda: len(bot.got) == 2)
        assert bot.got[1] == VOICE.astype("<i2").tobytes()
        data = bot.got[1]
        await bot.say(data[:333])  # within a sample
        await bot.say(data[333:])
        await bot.until(lambda: len(call.of(Audio)) == 2)
    assert np.array_equal(np.concatenate([a.pcm for a in call.of(Audio)]), VOICE)


async def test_ulaw_goes_both_ways():
    voice = decode_ulaw(encode_ulaw(VOICE[:160]))
    async with Bot() as bot, Call(engine(bot, format="ulaw")) as call:
        call.engine.hear(0, voice)
        await bot.until(lambda: len(bot.got) == 2)
        await bot.say(bot.got[1])
        await bot.until(lambda: call.of(Audio))
    assert np.array_equal(call.of(Audio)[0].pcm, voice)


async def test_marks_are_told_by_the_command_that_set_them():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(VOICE.tobytes())
        await bot.say({"command": "MARK_MEDIA", "correlation_id": "a"})
        await bot.say({"command": "STOP_MEDIA_BUFFERING", "correlation_id": "b"})
        await bot.say({"command": "REPORT_QUEUE_DRAINED"})
        await bot.until(lambda: len(call.of(Mark)) == 3)
        assert [type(e) for e in call.events[:4]] == [Audio, ItemDone, ReplyDone, Mark]
        for mark in call.of(Mark):
            call.engine.notify(Marked(mark.name, heard=True))
        await bot.until(lambda: len(bot.got) == 4)
    told = [(m["event"], m.get("correlation_id")) for m in bot.got[1:]]
    assert told == [
        ("MEDIA_MARK_PROCESSED", "a"),
        ("MEDIA_BUFFERING_COMPLETED", "b"),
        ("QUEUE_DRAINED", None),
    ]


async def test_flush_interrupts_and_hangup_waits_for_what_was_said():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(VOICE.tobytes())
        await bot.say({"command": "FLUSH_MEDIA"})
        await bot.say(VOICE.tobytes())
        await bot.say({"command": "HANGUP"})
        await bot.until(lambda: call.of(ToolCall))
    kinds = [type(e) for e in call.events]
    assert kinds == [Audio, Interrupt, Audio, ItemDone, ReplyDone, ToolCall]
    assert call.of(ToolCall)[0].name == "hang_up"


async def test_keys_and_the_callers_voice_are_told():
    async with Bot() as bot, Call(engine(bot)) as call:
        call.engine.notify(SpeechStarted(100))
        call.engine.notify(Digit("5"))
        await bot.until(lambda: len(bot.got) == 3)
    assert [(m["event"], m.get("digit")) for m in bot.got[1:]] == [
        ("SPEECH_STARTED", None),
        ("DTMF_END", "5"),
    ]


@pytest.mark.parametrize(
    "garbage", ["x", "[]", "{}", "7", '{"command":["x"]}', '{"command":"FLY"}']
)
async def test_garbage_is_ignored(garbage, caplog):
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.say(garbage)
        await bot.say({"command": "FLUSH_MEDIA"})
        await bot.until(lambda: call.of(Interrupt))
    assert "ignored" in caplog.text


async def test_a_bot_that_closes_gives_the_caller_back():
    async with Bot() as bot, Call(engine(bot)) as call:
        await bot.connected.wait()
        await bot.socket.close()
        await bot.until(lambda: call.of(ToolCall))
    assert call.of(ToolCall)[0].name == "leave"


@pytest.mark.parametrize("name", ["ulaw", "slin", "slin16"])
async def test_many_at_once_are_sent_what_each_alone_would_be(name):
    async with (
        Bot() as one,
        Bot() as other,
        Call(engine(one, format=name)) as a,
        Call(engine(other, format=name)) as b,
    ):
        both = [a.engine, b.engine]
        frames = np.stack([VOICE, VOICE[::-1]])
        many = a.engine.hear_many
        assert list(many(both, [0, 20], frames)) == []
        a.engine.hear(20, frames[0])
        b.engine.hear(40, frames[1])
        await one.say(b"\0" * 320)
        await one.until(lambda: a.of(Audio))
        assert list(many(both, [140, 60], frames)) == [0], "an utterance is over"
        assert not a.of(ItemDone)
        a.engine.hear(140, frames[0])
        assert a.of(ItemDone)
        await one.until(lambda: len(one.got) == 4)
        await other.until(lambda: len(other.got) == 4)
    for bot in (one, other):
        assert bot.got[1] == bot.got[2] == bot.got[3] != b""
    assert one.got[1] != other.got[1]


def test_frames_of_opus_are_encoded_by_each_calls_own_coder():
    settings = WebsocketSettings("ws://127.0.0.1:1/", format="opus")
    assert WebsocketEngine(settings).hear_many is None
