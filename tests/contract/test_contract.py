"""What every engine owes to a call. Time is the line's: twenty times as fast as the clock."""

import asyncio
import gc
from dataclasses import replace

import numpy as np
import pytest

from bridge.agent import TurnSettings
from bridge.engines.base import CallerText, Entry, Failed, Note, Resume, ToolCall, ToolResult
from bridge.errors import BridgeError, ConfigError, EngineError
from tests.contract.call import Call
from tests.contract.far import CallTool, Drop, Freeze, Garbage, Say, voice

HELLO = Say("Hello there.", 500, seed=2)
OPEN = Say("We are open.", 600, seed=3)
CLOSED = Say("Now we are closed.", 700, seed=4)
LONG = Say("One two three four five six seven eight nine ten.", 4000, seed=5)


# Looking at what was heard ------------------------------------------------------------------------


def spoken(line):
    """What the caller heard, silence left out."""
    frames = [f for f in line.played if np.abs(f).mean() > 50]
    return np.concatenate(frames) if frames else np.zeros(0)


def likeness(heard, said):
    """The best normalised correlation of `said` with a part of `heard`, 0 to 1."""
    if len(heard) < len(said) * 0.9:
        return 0.0
    size = 1 << (len(heard) + len(said)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)))
    at = int(np.argmax(cross))
    at = at if at < len(heard) else 0
    part = np.pad(heard, (0, len(said)))[at : at + len(said)].astype(float)
    norm = np.linalg.norm(part) * np.linalg.norm(said.astype(float))
    return float(part @ said / norm) if norm else 0.0


def heard_whole(line, *steps):
    """All of these were heard, sample by sample, and in this order."""
    heard, at = np.concatenate(line.played or [np.zeros(0)]), 0
    for step in steps:
        said = voice(step.ms, line.rate, step.seed)
        assert likeness(heard[at:], said) > line.far.alike, f"{step.text} is damaged or missing"
        size = 1 << (len(heard) + len(said)).bit_length()
        cross = np.fft.irfft(np.fft.rfft(heard[at:], size) * np.conj(np.fft.rfft(said, size)))
        at += int(np.argmax(cross)) + len(said) * 9 // 10
    return True


def loud_ms(line):
    """For how long the caller heard something."""
    return 20 * sum(np.abs(f).mean() > 50 for f in line.played)


async def ask(line, ms=600):
    """The caller says something, and is silent until he is answered."""
    before, heard = loud_ms(line), len(line.heard)
    await line.speak(voice(ms, line.rate, seed=9))
    await line.until(lambda: loud_ms(line) > before)
    await line.until(lambda: len(line.heard) > heard and not line.playout.playing)


async def begun(far, agent):
    """A call that can't begin."""
    async with Call(far, agent, await far.create(agent)):
        pass


async def greeted(line):
    """The greeting has been heard."""
    await line.until(lambda: line.heard and not line.playout.playing)


# A conversation -----------------------------------------------------------------------------------


async def test_it_greets(far, call):
    far.greeting = [HELLO]
    async with await call() as line:
        await greeted(line)
        assert heard_whole(line, HELLO)
        assert abs(sum(h.heard_ms for h in line.heard) - HELLO.ms) <= 60
    assert far.connections <= 1
    assert far.history is None


async def test_turns(far, call):
    far.greeting = [HELLO]
    far.answers.extend([[OPEN], [CLOSED]])
    async with await call() as line:
        await greeted(line)
        await ask(line)
        await ask(line)
        assert heard_whole(line, HELLO, OPEN, CLOSED)
        assert not any(h.cut for h in line.heard)
        assert line.made == 1
        said = voice(600, far.rate, seed=9)
        assert likeness(np.concatenate(far.caller), said) > far.alike


@pytest.mark.does("text")
async def test_both_sides_words_are_known(far, call):
    far.answers.append([OPEN])
    async with await call() as line:
        await ask(line)
        await line.until(lambda: any(c.final for c in line.of(CallerText)))
        assert " ".join(line.lines).split() == OPEN.text.split()
        assert [c.text for c in line.of(CallerText) if c.final][-1] == far.words


async def test_an_answer_of_several_parts(far, call):
    far.answers.append([OPEN, CLOSED])
    async with await call() as line:
        await ask(line)
        await line.until(lambda: loud_ms(line) >= 1200)
        await line.until(lambda: not line.playout.playing)
        assert heard_whole(line, OPEN, CLOSED)


async def test_he_interrupts_and_is_answered_again(far, call):
    far.answers.extend([[LONG], [OPEN]])
    async with await call() as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= 800)
        await line.speak(voice(1200, line.rate, seed=9))
        await line.until(lambda: any(not h.cut for h in line.heard))
        cut = [h for h in line.heard if h.cut]
        assert cut
        assert 700 <= sum(h.heard_ms for h in cut) <= 2600
        assert line.heard[-1].heard_ms == pytest.approx(OPEN.ms, abs=60)
        assert not line.heard[-1].cut
        before = loud_ms(line)
        await line.silence(3000)
        assert loud_ms(line) == before  # nothing of what was cut comes late
        assert line.made == 1
        if "truncation" in far.does:
            assert far.cuts
            assert far.cuts[-1] == pytest.approx(sum(h.heard_ms for h in cut), abs=60)


@pytest.mark.does("tools")
@pytest.mark.parametrize("ok", [True, False])
async def test_a_tool_is_called_and_its_result_answered(far, call, ok):
    far.answers.extend([[OPEN, CallTool("transfer", {"extension": "200"})], [CLOSED]])
    async with await call() as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: line.of(ToolCall) and not line.playout.playing)
        (tool,) = line.of(ToolCall)
        assert (tool.name, dict(tool.arguments)) == ("transfer", {"extension": "200"})
        line.engine.notify(ToolResult(tool.id, ok, "connected" if ok else "nobody answers"))
        if not ok or far.results:
            await line.until(lambda: loud_ms(line) >= OPEN.ms + CLOSED.ms - 40)
        await line.until(lambda: far.results)
    ((name, told, value),) = far.results
    assert (name, told) == ("transfer", ok)
    assert ("connected" if ok else "nobody answers") in str(value)


@pytest.mark.does("keys")
async def test_keys(far, call):
    async with await call() as line:
        await line.press("42#")
        await line.until(lambda: far.keys.rstrip("#") == "42")


# Audio as it comes --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 2, 3), (7, 333), (160,), (1999, 1), (100_000,)])
async def test_audio_in_pieces_of_any_size(far, call, sizes):
    step = replace(OPEN, sizes=sizes, ms=300 if sizes == (1, 2, 3) else 1500)
    far.answers.append([step])
    async with await call() as line:
        await ask(line)
        assert heard_whole(line, step)
        assert line.made == 1


async def test_audio_that_comes_slower_than_it_is_played(far, call):
    step = replace(LONG, ms=1000, sizes=(far.rate // 5,), every_ms=400)
    far.answers.append([step])
    async with await call() as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= 960)
        await line.silence(400)
        assert likeness(spoken(line), voice(1000, line.rate, step.seed)) > far.alike
        assert line.made == 1


async def test_a_long_answer_in_one_burst(far, call):
    step = replace(LONG, ms=12_000)
    far.answers.append([step])
    async with await call() as line:
        await ask(line)
        assert heard_whole(line, step)


async def test_audio_without_end_is_bounded(far, call):
    far.answers.append([replace(LONG, ms=30_000)] * 25)
    async with await call() as line:
        most = 0
        await line.speak(voice(600, line.rate, seed=9))
        for _ in range(400):
            await line.silence(20)
            most = max(most, line.playout.waiting_ms)
            if line.made > 1:
                break
        assert most <= (630_000 if line.made > 1 else 40_000)


# What goes wrong ----------------------------------------------------------------------------------


async def test_a_conversation_goes_on_after_a_crash_of_ours(far, call):
    far.greeting, history = [HELLO], [Entry("agent", "Hello there."), Entry("caller", "Hi.")]
    far.answers.append([OPEN])
    resume = Resume(owed=False)
    async with await call(history=history, resume=resume) as line:
        await line.silence(1000)
        assert loud_ms(line) == 0
        await ask(line)
        assert heard_whole(line, OPEN)
    if "history" in far.does:
        assert far.history is not None
        assert list(far.history)[:2] == [("agent", "Hello there."), ("caller", "Hi.")]


@pytest.mark.does("history")
async def test_the_answer_that_a_dead_process_owed_is_given(far, call):
    history = [Entry("agent", "Hello there."), Entry("caller", "Hi.")]
    far.answers.append([OPEN])
    async with await call(history=history, resume=Resume()) as line:
        await line.until(lambda: loud_ms(line) >= OPEN.ms - 40)
        assert heard_whole(line, OPEN)


async def answered_again(far, line):
    """The far end goes on: perhaps first with what it owed, and then with what is asked."""
    far.answers.clear()
    far.answers.extend([[CLOSED]] * 5)
    for _ in range(4):
        await line.silence(1000)
        await line.until(lambda: not line.playout.playing)
        if (
            len(far.answers) < 5
            and likeness(spoken(line), voice(700, line.rate, seed=4)) > far.alike
        ):
            return
        await line.speak(voice(600, line.rate, seed=9))
        await line.silence(2000)
    raise AssertionError(f"it isn't answered any more; log: {line.log}")


@pytest.mark.parametrize("step", [Drop(), Freeze()], ids=["drop", "hang"])
async def test_a_far_end_that_is_gone_in_mid_sentence(far, call, step):
    far.greeting = [HELLO]
    far.answers.extend([[OPEN, step], [CLOSED]])
    async with await call() as line:
        await greeted(line)
        await line.speak(voice(600, line.rate, seed=9))
        again = lambda: line.made == 2 and (far.open == 1 or not far.lasts)  # noqa: E731
        await line.until(again, at_most_ms=120_000)
        await line.until(lambda: not line.playout.playing)
        assert (
            likeness(np.concatenate(line.played), voice(OPEN.ms, line.rate, OPEN.seed)) > far.alike
        )
        await answered_again(far, line)
        lost = [note.text for note in line.of(Note) if note.restarted]
        assert len(lost) == 1
        assert "\n" not in lost[0]
        assert not line.of(Failed)


async def test_garbage(far, call, caplog):
    far.answers.extend([[Garbage(), OPEN], [CLOSED]])
    async with await call() as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: line.made == 2 or loud_ms(line) >= OPEN.ms - 40)
        await line.silence(1500)
        before = loud_ms(line)
        far.answers.clear()
        far.answers.append([CLOSED])
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= before + CLOSED.ms - 40)
        assert not line.of(Failed)
    assert "Traceback" not in caplog.text


async def test_nobody_there_is_one_line(far, agent):
    await far.refuse()
    secret = next(iter(far.environment().values()), "no secret at all")
    with pytest.raises(EngineError) as caught:
        await begun(far, agent)
    assert "\n" not in str(caught.value)
    assert secret not in str(caught.value)


@pytest.mark.does("key")
async def test_without_a_key_its_variable_is_named(far, agent, monkeypatch):
    monkeypatch.delenv(far.key_env, raising=False)
    with pytest.raises(BridgeError, match=far.key_env) as caught:
        await begun(far, agent)
    assert "\n" not in str(caught.value)


@pytest.mark.does("key")
async def test_a_wrong_key_is_one_line(far, agent, monkeypatch):
    monkeypatch.setenv(far.key_env, "sk-wrong-key-0123456789")
    with pytest.raises(EngineError, match=far.key_env) as caught:
        await begun(far, agent)
    assert "\n" not in str(caught.value)
    assert "sk-wrong" not in str(caught.value)


async def test_its_table_is_checked(far, agent):
    with pytest.raises(ConfigError, match=r"contract.toml: .*'no_such_key'"):
        await far.create(replace(agent, options={**agent.options, "no_such_key": 1}))


async def test_nothing_is_left_of_it(far, call):
    far.answers.append([LONG])
    before = asyncio.all_tasks()
    async with await call() as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= 500)
    told = len(line.log)
    far.stop()
    async with asyncio.timeout(5):
        while far.open:
            await asyncio.sleep(0.005)
    gc.collect()
    assert len(line.log) == told
    left = {t for t in asyncio.all_tasks() - before if "bridge" in str(t.get_coro())}
    assert not left


@pytest.mark.does("autonomous")
async def test_who_speaks_when_he_likes_is_not_taken_for_lost(far, call, agent):
    quiet = replace(agent, engine_silent_s=4.0, greeting="Hello.", turns=TurnSettings())
    async with await call(agent=quiet) as line:
        await line.silence(40_000)  # asked for a greeting, and three times for anything at all
        assert line.made == 1
