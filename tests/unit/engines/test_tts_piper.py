"""The queue, the cache and the rescue, with a process that speaks piper's frames but not piper."""

import asyncio
import contextlib
import sys
import textwrap

import numpy as np
import pytest

from bridge.engines import tts_piper
from bridge.engines.tts_piper import Piper, voice
from bridge.errors import EngineError, EngineLost, EngineMissing

# Says each text as many samples as it has characters. What a text holds tells it what to do; the
# file that it is given counts its requests over all of its lives.
FAKE = textwrap.dedent("""
    import json, os, struct, sys, time
    def write(kind, payload=b""):
        sys.stdout.buffer.write(kind + struct.pack("<I", len(payload)) + payload)
        sys.stdout.buffer.flush()
    log = open(sys.argv[1], "a+")
    if len(sys.argv) > 2:
        write(b"E", sys.argv[2].encode())
        sys.exit(1)
    write(b"R")
    while len(head := sys.stdin.buffer.read(4)) == 4:
        text = json.loads(sys.stdin.buffer.read(struct.unpack("<I", head)[0]))["text"]
        log.seek(0)
        before = log.read().splitlines().count(text)
        log.write(text + "\\n")
        log.flush()
        if "die always" in text or ("die once" in text and not before):
            os._exit(9)
        if "hang" in text:
            time.sleep(600)
        if "refuse" in text:
            write(b"E", b"too strange")
            continue
        if "words" in text:
            write(b"W", json.dumps([[3, 10], [len(text), 20]]).encode())
        if "empty" not in text:
            write(b"A", b"\\x01\\x00" * len(text))
        write(b"D")
""")


@pytest.fixture
def asked(tmp_path):
    """What the process was asked so far."""
    path = tmp_path / "asked"
    path.touch()
    return lambda: path.read_text().splitlines()


@contextlib.asynccontextmanager
async def running(tmp_path, *more, **limits):
    piper = Piper([sys.executable, "-c", FAKE, str(tmp_path / "asked"), *more], 1000, **limits)
    await piper.start()
    task = asyncio.create_task(piper.run())
    try:
        yield piper
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert piper._process is None  # nothing is left running


async def say(piper, text, first=True):
    return np.concatenate([np.zeros(0, np.int16), *[p async for p in piper.say(text, first)]])


async def test_it_says_and_remembers(tmp_path, asked):
    async with running(tmp_path) as piper:
        assert (await say(piper, "hello")).tolist() == [1] * 5
        assert (await say(piper, "hello")).tolist() == [1] * 5
        assert len(await say(piper, "empty")) == 0
    assert asked() == ["hello", "empty"]


async def test_audio_comes_in_pieces(tmp_path):
    async with running(tmp_path) as piper:
        pieces = [len(p) async for p in piper.say("x" * 450, True)]
    assert pieces == [200, 200, 50]


async def test_two_calls_that_want_the_same_share_it(tmp_path, asked):
    async with running(tmp_path) as piper:
        both = await asyncio.gather(say(piper, "same"), say(piper, "same"))
        assert [len(b) for b in both] == [4, 4]
        assert len(await say(piper, "after")) == 5
    assert asked() == ["same", "after"]


async def test_a_call_that_gives_up_takes_nothing_from_another(tmp_path):
    async with running(tmp_path) as piper:
        gone = asyncio.create_task(say(piper, "same"))
        stays = asyncio.create_task(say(piper, "same"))
        await asyncio.sleep(0)
        gone.cancel()
        assert len(await stays) == 4


async def test_who_waits_in_silence_goes_first(tmp_path, asked):
    async with running(tmp_path) as piper:
        await asyncio.gather(
            say(piper, "busy"),  # keeps the process, while the others queue
            piper.prepare(["greeting", "ahead 1", "ahead 2", "ahead 3"]),
            say(piper, "next", first=False),
            say(piper, "urgent"),
            say(piper, "ahead 2", first=False),
        )
        await say(piper, "ahead 3")
    assert asked() == ["busy", "greeting", "urgent", "next", "ahead 2", "ahead 1", "ahead 3"]


async def test_what_nobody_waits_for_any_more_is_not_rendered(tmp_path, asked):
    async with running(tmp_path) as piper:
        busy = asyncio.create_task(say(piper, "busy"))
        gone = asyncio.create_task(say(piper, "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await busy
        await say(piper, "after")
        assert asked() == ["busy", "after"]
        assert len(await say(piper, "gone")) == 4  # it may be asked for again


async def test_a_process_that_died_is_started_again(tmp_path, asked):
    async with running(tmp_path) as piper:
        assert len(await say(piper, "die once")) == 8
        assert piper.starts == 2
    assert asked() == ["die once", "die once"]


async def test_a_sentence_that_kills_twice_fails_alone(tmp_path):
    async with running(tmp_path) as piper:
        with pytest.raises(EngineLost, match="twice over the same sentence"):
            await say(piper, "die always")
        assert len(await say(piper, "hello")) == 5


async def test_a_process_that_hangs_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(tts_piper, "ANSWER_S", 0.2)
    async with running(tmp_path) as piper:
        with pytest.raises(EngineLost):
            await say(piper, "hang")
        assert len(await say(piper, "hello")) == 5


async def test_a_text_that_is_refused_fails_without_a_restart(tmp_path):
    async with running(tmp_path) as piper:
        with pytest.raises(EngineError, match="can't say 'refuse': too strange"):
            await say(piper, "refuse")
        assert piper.starts == 1


async def test_a_failure_ahead_of_time_is_nobodys(tmp_path):
    async with running(tmp_path) as piper:
        await piper.prepare(["greeting", "refuse", "fine"])
        assert len(await say(piper, "fine")) == 4


async def test_the_cache_is_bounded_and_forgets_what_was_used_longest_ago(tmp_path, asked):
    async with running(tmp_path, cache_bytes=25) as piper:
        for text in ("aaaaa", "bbbbb", "aaaaa", "ccccc", "aaaaa", "bbbbb"):
            await say(piper, text)
    assert asked() == ["aaaaa", "bbbbb", "ccccc", "bbbbb"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("no such model", "piper can't be started: no such model"),
        (
            "No module named 'piper'",
            "piper can't be started: No module named 'piper'; pip install 'ari-bridge[offline]'",
        ),
    ],
)
async def test_a_process_that_cannot_load_says_why(tmp_path, reason, said):
    with pytest.raises(EngineMissing) as caught:
        async with running(tmp_path, reason):
            pass
    assert str(caught.value) == said


async def test_a_process_that_ends_at_once_is_said():
    piper = Piper([sys.executable, "-c", "pass"], 16000)
    with pytest.raises(EngineLost, match="didn't start"):
        await piper.start()


def test_a_voice_that_is_not_there_is_said():
    assert voice("joe").suffix == ".onnx"
    with pytest.raises(EngineMissing, match=r"no piper voice .*nobody\.onnx"):
        voice("/nowhere/nobody.onnx")


async def test_it_knows_when_the_words_are_over_of_what_it_has_said(tmp_path):
    async with running(tmp_path) as piper:
        assert piper.words("the words") == ()
        async for _ in piper.say("the words", first=True):
            assert piper.words("the words") == ((3, 10), (9, 20))
        async for _ in piper.say("others", first=True):
            assert piper.words("others") == ()
