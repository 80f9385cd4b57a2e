"""The whole bridge, as a user runs it, on a real Asterisk with real callers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis import Redis as Client

from bridge.engines.rates import resample
from bridge.engines.stt_moonshine import _running
from bridge.sessions.model import INDEX, Line, call_key, transcript_key
from tests.bench.corpus import encode
from tests.contract.far import CallTool, Say, voice
from tests.contract.far_openai import OpenAi
from tests.demo.voice import clip
from tests.lab import sipp
from tests.lab.baresip import Baresip
from tests.lab.capture import RATE, Capture, decode, digits, lay_out
from tests.lab.local import Llama, WyomingPiper
from tests.lab.stack import Stack, capture
from tests.soak import phones as soak
from tests.soak.judge import in_pieces
from tests.soak.placer import Placer

TIMEOUT_S = 20.0
HUMAN_HZ = (650, 1450)  # extension 200 of the demo


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    yield running
    assert running.pbx.wait_idle() == []


class Memory:
    """What Redis holds of the first call that began since."""

    def __init__(self, stack: Stack) -> None:
        self._client: Client = Client.from_url(stack.redis.url, decode_responses=True)
        self._before = set(self._client.zrange(INDEX, 0, -1))
        self._id: str | None = None

    def call_id(self) -> str | None:
        if self._id is None:
            new = [i for i in self._client.zrange(INDEX, 0, -1) if i not in self._before]
            self._id = new[0] if new else None
        return self._id

    def record(self) -> dict[str, str]:
        call_id = self.call_id()
        return self._client.hgetall(call_key(call_id)) if call_id else {}

    def lines(self) -> list[Line]:
        entries = self._client.xrange(transcript_key(self.call_id() or ""))
        return [Line.from_fields(fields) for _, fields in entries]

    def agent_said(self) -> str:
        return " ".join(line.text for line in self.lines() if line.role == "agent")


async def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        await asyncio.sleep(0.05)


def received(packets: Capture, phone: Baresip) -> np.ndarray:
    got = [p for p in packets.packets if not p.sent]
    return lay_out(got, sent=False, start=got[0].at, end=got[-1].at).pcm


def likeness(heard: np.ndarray, said: np.ndarray) -> float:
    """How much `heard` holds of `said`: of each 100 ms the best correlation near its place, the
    median of all. (A busy machine may hold a packet back and shift what follows by a frame, and who
    hangs up as soon as the last frame has been sent may not receive it.)"""
    step, slack = RATE // 10, RATE // 20
    whole, part = np.pad(heard.astype(float), (0, slack)), said.astype(float)
    at = int(np.correlate(whole, part, "valid").argmax())
    best = []
    for begin in range(0, len(part) - step, step):
        piece = part[begin : begin + step]
        near = whole[max(0, at + begin - slack) : at + begin + step + slack]
        energy = np.sqrt(np.convolve(near**2, np.ones(step), "valid"))
        best.append((np.correlate(near, piece, "valid") / (energy + 1)).max())
        best[-1] /= np.linalg.norm(piece) + 1
    return float(np.median(best))


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
async def test_audio_goes_up_and_comes_back(stack: Stack, tmp_path: Path, codec: str) -> None:
    """The echo agent gives the caller's own words back, nothing lost, nothing added."""
    words = clip("The quick brown fox jumps over the lazy dog.")
    memory = Memory(stack)
    async with stack.phone(codec=codec) as phone:
        with capture(phone, tmp_path / "call.pcap") as packets:
            await phone.dial("701")
            await asyncio.sleep(0.5)
            seconds = await phone.speak(words.pcm, RATE)
            await asyncio.sleep(seconds + 1.0)
            await until(lambda: "audio" in memory.record(), "its quality is told while it lasts")
            live = json.loads(memory.record()["audio"])
            await phone.hangup()
    assert memory.record()["codec"] == codec.upper()
    await until(lambda: memory.record()["state"] == "ended", "the call has ended")
    quality = json.loads(memory.record()["audio"])
    assert quality["received"] > live["received"] > 100
    assert 4.3 <= quality["mos"] <= 4.5
    caller = quality["caller"]
    assert caller == live["caller"], "what the PBX told last"
    assert min(caller["received"], caller["sent"]) > 100
    assert caller["lost"] == 0
    assert 4.3 <= caller["mos"] <= 4.5
    assert likeness(received(packets, phone), words.pcm) > 0.98
    numbers = [p.seq for p in packets.packets if not p.sent and decode(p) is not None]
    assert np.all(np.diff(numbers) % 65536 == 1)


async def test_over_tls_and_srtp_the_wire_holds_no_speech(stack: Stack, tmp_path: Path) -> None:
    memory = Memory(stack)
    async with stack.phone(secure=True) as phone:
        with capture(phone, tmp_path / "call.pcap") as packets:
            await phone.dial("700")
            await until(lambda: "help you" in memory.agent_said(), "the greeting was heard")
            words = clip("Where can I park?")
            await asyncio.sleep(0.5 + await phone.speak(words.pcm, RATE))
            await until(lambda: "behind the shop" in memory.agent_said(), "the answer was heard")
            await phone.hangup()
    # Both sides were understood; on the wire every payload byte is as likely as any other, which
    # G.711 speech and silence never are.
    payload = b"".join(p.payload for p in packets.packets)
    shares = np.bincount(np.frombuffer(payload, np.uint8), minlength=256) / len(payload)
    assert len(packets.packets) > 400
    assert shares.max() < 0.006


async def test_a_caller_who_hangs_up_at_once(stack: Stack) -> None:
    for _ in range(5):
        memory = Memory(stack)
        call = await asyncio.to_thread(sipp.call, stack.pbx, "700", hang_up_after_s=0.0)
        assert call.answered
    await until(lambda: memory.record().get("state") == "ended", "the session ended")
    assert memory.record()["result"] == "hung-up"


async def test_an_unknown_agent_goes_on_in_the_dialplan(stack: Stack) -> None:
    memory = Memory(stack)
    stack.pbx.cli("dialplan add extension 799,1,Set,ARI_BRIDGE_AGENT=nobody into internal")
    stack.pbx.cli("dialplan add extension 799,2,Goto,ari-bridge-call,799,1 into internal")
    call = await asyncio.to_thread(sipp.call, stack.pbx, "799", hang_up_after_s=None)
    assert call.ended_as_expected  # after the dialplan's announcement
    assert len(call.packets) > 50
    assert memory.record()["result"] == "unknown-agent"
    assert "no agent 'nobody'" in stack.bridge.log()
    assert "there are: demo, echo" in stack.bridge.log()
    assert 'result is "unknown-agent"' in stack.pbx.log_path.read_text()


async def test_hold_stops_the_agent_and_resume_lets_it_go_on(stack: Stack, tmp_path: Path) -> None:
    memory = Memory(stack)
    async with stack.phone() as phone:
        await phone.dial("700")
        await asyncio.sleep(1.0)  # in the middle of the greeting
        await phone.hold()
        await asyncio.sleep(3.0)
        assert "help you" not in memory.agent_said()
        await phone.resume()
        await until(lambda: "help you" in memory.agent_said(), "the greeting's end was heard")
        await phone.hangup()
    assert [line.text for line in memory.lines() if line.role == "event"] == ["hold", "resume"]


async def greeted(
    stack: Stack, path: Path, say: str = "", until_said: str = "help you"
) -> tuple[np.ndarray, Memory]:
    """A call in which the caller says something into the greeting: what he heard of it."""
    memory = Memory(stack)
    async with stack.phone() as phone:
        with capture(phone, path) as packets:
            await phone.dial("700")
            await asyncio.sleep(1.2)
            if say:
                await phone.speak(clip(say).pcm, RATE)
            await until(lambda: until_said in memory.agent_said(), f"'{until_said}' was heard")
            await phone.hangup()
    await until(lambda: memory.record().get("state") == "ended", "the session ended")
    return received(packets, phone), memory


def found(piece: np.ndarray, whole: np.ndarray) -> tuple[float, int]:
    """How alike, and where, is what is most like `piece`."""
    energy = np.sqrt(np.convolve(whole**2, np.ones(len(piece)), "valid"))
    alike = np.correlate(whole, piece, "valid") / (energy + 100) / np.linalg.norm(piece)
    return float(alike.max()), int(alike.argmax())


def loud_ms(pcm: np.ndarray) -> int:
    """How long there is speech in it."""
    pieces = pcm[: len(pcm) // 80 * 80].reshape(-1, 80).astype(float)
    return 10 * int((np.sqrt(np.mean(pieces**2, axis=1)) > 300).sum())


async def test_okay_makes_the_agent_wait_and_nothing_is_lost(stack: Stack, tmp_path: Path) -> None:
    whole, _ = await greeted(stack, tmp_path / "control.pcap")
    halting, memory = await greeted(stack, tmp_path / "halting.pcap", "Okay.")
    assert [line.text for line in memory.lines() if line.role in ("event", "caller")] == []
    [turn] = json.loads(memory.record()["latency"])
    assert "resumed" in turn["at_s"]
    assert "dropped" not in turn["at_s"]
    step = RATE // 10
    pieces = [whole[at : at + step].astype(float) for at in range(0, len(whole) - step, step)]
    heard = [found(p, halting.astype(float)) for p in pieces if np.sqrt(np.mean(p**2)) > 300]
    assert len(heard) > 15
    assert sum(alike > 0.9 for alike, _ in heard) >= len(heard) - 2, "but where it was faded"
    at = np.array([at for alike, at in heard if alike > 0.9])
    assert (np.diff(at) > 0).all(), "in its order"
    waited = (np.diff(at) - step).max() / RATE
    assert 0.15 < waited < 2.0
    assert abs(loud_ms(halting) - loud_ms(whole)) <= 60, "and nothing twice"


async def test_a_word_that_counts_stops_the_agent_and_is_answered(
    stack: Stack, tmp_path: Path
) -> None:
    said = "Stop, where can I park?"
    _, memory = await greeted(stack, tmp_path / "cut.pcap", said, until_said="behind the shop")
    assert "barge-in" in [line.text for line in memory.lines() if line.role == "event"]
    greeting = next(line for line in memory.lines() if line.role == "agent")
    assert greeting.cut
    assert "help you" not in greeting.text
    turns = json.loads(memory.record()["latency"])
    assert any("dropped" in turn["at_s"] for turn in turns)
    [answered] = [turn for turn in turns if "voice_to_voice_ms" in turn]
    assert sum(answered["path_ms"].values()) == pytest.approx(answered["voice_to_voice_ms"], abs=1)
    assert f"turn {answered['turn']}: voice to voice" in stack.bridge.log()


async def test_a_key_silences_the_greeting(stack: Stack, tmp_path: Path) -> None:
    memory = Memory(stack)
    async with stack.phone() as phone:
        with capture(phone, tmp_path / "key.pcap") as packets:
            await phone.dial("700")
            await asyncio.sleep(1.0)  # in the middle of the greeting
            await phone.dtmf("5")
            await until(lambda: memory.record().get("state") == "talking", "the call is up")
            await until(lambda: [line for line in memory.lines() if line.cut], "it was cut")
            await phone.hangup()
    greeting = next(line for line in memory.lines() if line.role == "agent")
    assert "help you" not in greeting.text
    # What the session says was heard is what the phone got: nothing of it came later. (What answers
    # the key may, and what bridges the wait for that.)
    packets.packets[:] = [p for p in packets.packets if p.at < greeting.at + 0.5]
    assert 0 < loud_ms(received(packets, phone)) <= greeting.heard_ms + 60


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """A bridge whose agent `demo`, a file that is read for each call, a test may write."""
    agents = Path(__file__).parents[2] / "agents"
    file = tmp_path_factory.mktemp("agents") / "demo.toml"
    text = (agents / "demo.toml").read_text()
    file.write_text(text.replace("max_call_s = 1800", "max_call_s = 3"))
    settings = {"agents": {"folder": str(file.parent)}}
    with Stack(settings=settings, environment={"OPENAI_API_KEY": "sk-right-key"}) as stack:
        yield stack, file


async def test_a_call_may_not_last_for_ever(own: tuple[Stack, Path]) -> None:
    stack, _ = own
    memory = Memory(stack)
    call = await asyncio.to_thread(sipp.call, stack.pbx, "700", hang_up_after_s=None)
    assert call.ended_as_expected
    record = memory.record()
    assert (record["state"], record["result"]) == ("ended", "done")
    assert "max_call_s (3)" in record["reason"]


async def test_a_vendors_spoken_model_on_the_telephone(
    own: tuple[Stack, Path], tmp_path: Path
) -> None:
    """A stand-in of OpenAI's realtime API greets, is spoken to, and checks what it is sent."""
    stack, file = own
    words = clip("Where can I park?")
    async with OpenAi() as far:
        file.write_text(
            f'engine = "openai-realtime"\ngreeting = "Hello there."\n'
            f'[openai-realtime]\nurl = "ws://{far.where}/v1"\n'
        )
        hello, answer = Say("Hello there.", 1500, seed=2), Say("Behind the shop.", 1500, seed=3)
        far.answers.extend([[hello], [answer]])
        memory = Memory(stack)
        async with stack.phone() as phone:
            with capture(phone, tmp_path / "call.pcap") as packets:
                await phone.dial("700")
                await until(lambda: "Hello there." in memory.agent_said(), "the greeting was heard")
                await phone.speak(words.pcm, RATE)
                await until(lambda: "Behind" in memory.agent_said(), "the answer was heard")
                await phone.hangup()
        heard = received(packets, phone)
        for said in (hello, answer):
            assert likeness(heard, voice(said.ms, RATE, said.seed)) > 0.95
        assert likeness(np.concatenate(far.caller), words.pcm) > 0.95
        assert [line.text for line in memory.lines() if line.role == "caller"] == [far.words]
        assert not far.faults
    assert stack.pbx.wait_idle() == []


TOOLS = """
engine = "openai-realtime"
greeting = "Hello there."
tools = ["remember", "get_variable", "set_variable", "send_dtmf"]

[variables]
read = ["CALL_REASON"]
write = ["CALL_REASON"]

[tool.order]
type = "http"
description = "Where an order is."
url = "{service}/orders/{{number}}"
parameters.number.type = "string"

[tool.facts]
type = "knowledge"
description = "What we know."
folder = "facts"

[openai-realtime]
url = "ws://{far}/v1"
"""


async def test_every_kind_of_tool_in_one_call(own: tuple[Stack, Path], tmp_path: Path) -> None:
    """What a vendor's model calls one after the other, and what it is told of each."""
    stack, file = own
    (file.parent / "facts").mkdir()
    (file.parent / "facts" / "parking.md").write_text("# Parking\n\nBehind the shop.\n")
    asked: list[str] = []

    async def order(request: web.Request) -> web.Response:
        asked.append(request.headers["Idempotency-Key"])
        return web.json_response({"order": request.match_info["number"], "state": "sent"})

    service = web.Application()
    service.router.add_get("/orders/{number}", order)
    calls = [
        CallTool("remember", {"name": "order", "value": "4711"}),
        CallTool("set_variable", {"name": "CALL_REASON", "value": "order, late"}),
        CallTool("get_variable", {"name": "CALL_REASON"}),
        CallTool("order", {"number": "4711"}),
        CallTool("facts", {"query": "park"}),
        CallTool("send_dtmf", {"digits": "47#"}),
    ]
    async with OpenAi() as far, TestServer(service) as server:
        url = str(server.make_url("")).rstrip("/")
        file.write_text(TOOLS.format(far=far.where, service=url))
        hello, bye = Say("Hello there.", 300, seed=2), Say("All done.", 300, seed=3)
        far.answers.extend([[hello], *([call] for call in calls), [bye]])
        memory = Memory(stack)
        async with stack.phone() as phone:
            with capture(phone, tmp_path / "call.pcap") as packets:
                await phone.dial("700")
                await until(lambda: "Hello there." in memory.agent_said(), "the greeting was heard")
                await phone.speak(clip("Where can I park?").pcm, RATE)
                await until(lambda: "All done." in memory.agent_said(), "the last was heard")
                await phone.hangup()
        assert not far.faults
    assert far.results == [
        ("remember", True, "noted"),
        ("set_variable", True, "set"),
        ("get_variable", True, "order, late"),
        ("order", True, {"order": "4711", "state": "sent"}),
        ("facts", True, [{"source": "parking.md, Parking", "text": "Behind the shop."}]),
        ("send_dtmf", True, "pressed"),
    ]
    assert len(asked) == 1
    assert [digit.digit for digit in digits(packets.packets, sent=False)] == ["4", "7", "#"]
    assert json.loads(memory.record()["progress"])["notes"] == {"order": "4711"}
    assert stack.pbx.wait_idle() == []


async def test_a_local_stack_on_the_telephone(own: tuple[Stack, Path], tmp_path: Path) -> None:
    """moonshine, a language model behind llama.cpp and piper behind Wyoming: what the caller gets
    is what the transcript says that he heard."""
    stack, file = own
    with Llama(calls=1) as llama, WyomingPiper() as piper:
        file.write_text(
            f'engine = "cascade"\ngreeting = "Hello, this is the book shop."\n'
            f'[stt]\nprovider = "moonshine"\n'
            f'[llm]\nprovider = "openai"\nurl = "{llama.url}"\nmax_tokens = 30\n'
            f'temperature = 0.0\ntools = false\ninstructions = "You are a book shop. Be brief."\n'
            f'[tts]\nprovider = "wyoming"\nurl = "{piper.url}"\n'
        )
        memory = Memory(stack)
        async with stack.phone() as phone:
            with capture(phone, tmp_path / "call.pcap") as packets:
                await phone.dial("700")
                await until(lambda: "book shop" in memory.agent_said(), "the greeting was heard")
                await phone.speak(clip("Do you sell gift cards?").pcm, RATE)
                await until(lambda: len(agent_lines(memory)) > 1, "an answer was heard")
                await phone.hangup()
    await until(lambda: memory.record()["state"] == "ended", "the call has ended")
    [asked] = [line.text for line in memory.lines() if line.role == "caller"]
    assert "gift" in asked
    async with _running() as stt:
        heard = letters(await stt.transcribe(resample(received(packets, phone), RATE, stt.rate)))
    said = letters(memory.agent_said())
    found = SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks()
    assert sum(block.size for block in found) >= 2 / 3 * len(said), (said, heard)
    assert stack.pbx.wait_idle() == []


def agent_lines(memory: Memory) -> list[Line]:
    return [line for line in memory.lines() if line.role == "agent"]


def letters(text: str) -> str:
    """Without the gaps between words, which a recogniser sets as it likes ("bookshop")."""
    return "".join(re.findall(r"[a-z]", text.lower()))


async def test_many_callers_at_once(stack: Stack) -> None:
    """As in the soak: each hears the greeting, or what he said himself. And the soak's judge sees
    what it is for: once, Asterisk stands still for a moment."""
    calls, there = await asyncio.to_thread(many_calls, stack)
    assert len(calls) == 6
    assert there
    for call in calls:
        assert call.setup_ms is not None
        assert not call.lost
        assert call.heard.packets > 200
        assert call.caller not in there or any(ms > 190 for _, ms in call.heard.gaps)
    greeted = [call.heard.sound[1600:17600] for call in calls if not call.echo]
    for sound in greeted:
        assert all((in_pieces(sound, other) or 0) > 0.8 for other in greeted)
    for call in calls:
        assert not call.echo or (call.alike or 0) > 0.5
    assert "Traceback" not in stack.bridge.log()


def many_calls(stack: Stack) -> tuple[list[soak.Call], set[int]]:
    """Three that call the agent and three that call the echo; who was there when Asterisk stood
    still."""
    said = np.concatenate([clip(text).pcm for text in ("Where can I park?", "Can I pay by card?")])
    audio = encode(said[: len(said) // 160 * 160])
    with (
        soak.Phones(6, 6, lambda n: n % 2 == 1, audio=audio) as phones,
        Placer(
            *(stack.pbx, phones.port, range(6), ["700", "701"]),
            at_once=6,
            rate=6,
            hold_ms=(6000, 7000),
            count=6,
        ) as placer,
    ):
        phones.placers.append(placer)
        until = time.monotonic() + TIMEOUT_S
        while len(phones.up) < 6 and not phones.calls and time.monotonic() < until:
            phones.pump(0.1)
        phones.pump(0.2)
        there = set(phones.up)
        os.kill(stack.pbx.pid, signal.SIGSTOP)
        try:
            phones.pump(0.2)
        finally:
            os.kill(stack.pbx.pid, signal.SIGCONT)
        phones.finish(60)
        assert phones.dropped() == 0
        return phones.calls, there


async def test_asterisk_goes_and_comes_back() -> None:
    with Stack() as stack:
        memory = Memory(stack)
        async with stack.phone() as phone:
            await phone.dial("701")
            await until(lambda: memory.record().get("state") == "talking", "the call is up")
            stack.pbx.kill()
        stack.pbx.start()
        await until(lambda: memory.record().get("state") == "ended", "the session ended")
        assert memory.record()["result"] == "hung-up"
        await until(lambda: stack.bridge.log().count("Asterisk is up") == 2, "it is back")
        call = await asyncio.to_thread(sipp.call, stack.pbx, "701", hang_up_after_s=1.0)
        assert call.answered
        assert stack.pbx.wait_idle() == []
        assert "Traceback" not in stack.bridge.log()


@pytest.mark.parametrize("name", ["media", "worker"])
async def test_a_process_that_dies_is_started_again(name: str) -> None:
    """Whoever was on the line is not left in silence, and the next caller is served."""
    with Stack() as stack:
        memory = Memory(stack)
        calling = asyncio.create_task(
            asyncio.to_thread(sipp.call, stack.pbx, "700", hang_up_after_s=None)
        )
        await until(lambda: memory.record().get("state") == "talking", "the call is up")
        os.kill(stack.bridge.child(name), signal.SIGKILL)
        log = stack.bridge.log
        if name == "media":  # the one that stood by goes on
            await until(lambda: "has a successor" in log(), "calls go on")
        else:
            await until(lambda: log().count("Asterisk is up") == 2, "it serves again")
            await until(lambda: "taken up with" in log(), "the call is taken up")
        again = Memory(stack)
        call = await asyncio.to_thread(sipp.call, stack.pbx, "701", hang_up_after_s=1.0)
        assert call.answered
        await until(lambda: again.record().get("state") == "ended", "its session ended")
        assert memory.record()["state"] == "talking"  # the first caller is served on
        stack.pbx.cli("channel request hangup all")
        await calling
        assert stack.pbx.wait_idle(20.0) == []


async def test_the_bridge_stops_in_mid_call_and_the_dialplan_takes_the_caller() -> None:
    with Stack() as stack:
        memory = Memory(stack)
        calling = asyncio.create_task(
            asyncio.to_thread(sipp.call, stack.pbx, "700", hang_up_after_s=None)
        )
        await until(lambda: memory.record().get("state") == "talking", "the call is up")
        await asyncio.to_thread(stack.bridge.stop)
        assert memory.record()["result"] == "shutdown"
        call = await calling
        assert call.ended_as_expected  # after the dialplan's announcement
        assert 'result is "shutdown"' in stack.pbx.log_path.read_text()
        assert stack.pbx.wait_idle() == []
        assert "Traceback" not in stack.bridge.log()
