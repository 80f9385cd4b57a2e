"""A dashboard whose Redis holds calls that a test wrote there: what is to be seen is known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import wave
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.async_api import Page

from bridge.media import control
from bridge.media.slots import OPEN, SlotMap
from bridge.recording.notes import Notes
from bridge.sessions.model import Line
from bridge.sessions.orders import Inbox, Order
from bridge.sessions.redis import RedisStore
from bridge.sessions.server import close, connect
from bridge.sessions.settings import RedisSettings
from bridge.web.token import READ_VARIABLE, VARIABLE
from tests.demo.voice import clip
from tests.lab.capture import RATE
from tests.lab.redis import Redis
from tests.lab.root import free_port

Spoken = tuple[int, str, float, float]
"""Who (0: caller, 1: agent), what, from when to when (s)."""
TOKEN, READER = "a-token-of-the-tests", "a-token-that-may-look"
STAGES_MS = {"media_in": 21, "silence": 284, "stt": 62, "llm": 18, "tts": 141, "media_out": 24}


def turn(number: int, begin: float, scale: float = 1.0, **more: Any) -> dict[str, Any]:
    """A turn's latency as the stopwatch writes it; `begin`: the answer's first packet, epoch."""
    path = {name: round(ms * scale, 1) for name, ms in STAGES_MS.items()}
    total = sum(path.values())
    return {
        "turn": number,
        "at_s": {"last_voice": round(begin - total / 1000, 3), "first_packet": round(begin, 3)},
        "voice_to_voice_ms": round(total, 1),
        "path_ms": path,
        "clock_s": 0.0,
        **more,
    }


def went_on(at: float, seconds: float = 0.45) -> dict[str, Any]:
    """A barge-in that was none: the agent paused, and went on."""
    stamps = {"onset": at - 0.1, "paused": at, "resumed": at + seconds}
    spans = {"paused": 100.0, "resumed": 100.0 + seconds * 1000}
    return {"turn": 0, "at_s": stamps, "interruption_ms": spans, "clock_s": 0.0}


async def save(page: Page, path: Path) -> None:
    """A picture of what is seen now, with few enough colours to be small."""
    await page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


WORKER = "host-4711-a1b2"


class Stage:
    """`async with stage(...) as stage:`."""

    def __init__(self, store: RedisStore, slots: SlotMap, url: str, folder: Path) -> None:
        self.store, self.slots, self.url, self.folder = store, slots, url, folder
        self.orders: list[Order] = []
        """What the page's buttons have had the worker told."""
        self.answer: Mapping[str, Any] = {}
        """What it says to that."""
        self._row = 0

    async def carry_out(self, order: Order) -> Mapping[str, Any]:
        """In the worker's place."""
        self.orders.append(order)
        return self.answer

    def call(self, call_id: str, ago_s: float = 0.0, **fields: Any) -> None:
        """A call that began so long ago."""
        started = time.time() - ago_s
        given: dict[str, Any] = {
            "agent": "demo",
            "engine": "offline",
            "worker": WORKER,
            "fence": 1,
            "caller": "100",
            "dialed": "700",
            "codec": "PCMU",
            "state": "talking",
            "started": started,
            "answered": started + 0.2,
        }
        self.store.begin(call_id)
        self.store.put(call_id, **{**given, **fields})

    def says(self, call_id: str, role: Any, text: str, at: float, **more: Any) -> None:
        """One line of its transcript."""
        seconds = more.get("heard_ms", 400 * len(text.split())) / 1000
        spoken = {"begin": at - seconds, "end": at} if role in ("caller", "agent") else {}
        self.store.say(call_id, Line(at, role, text, **more, **spoken))

    def record(
        self,
        call_id: str,
        began: float,
        seconds: float,
        spoken: list[Spoken],
        parts: Sequence[tuple[float, float]] = (),
    ) -> None:
        """A recording of the call; each line in a voice of its own, cut where it was.

        `parts`: from when to when of it (s) each of its files holds; one holds all by default.
        """
        sound = np.zeros((round(seconds * RATE), 2), "<i2")
        for side, text, begin, end in spoken:
            voice = clip(text, "slt") if side else clip(text)
            room = sound[round(begin * RATE) : round(end * RATE), side]
            part = voice.pcm[: len(room)]
            room[: len(part)] = part
        paths = []
        for number, (begin, end) in enumerate(parts or [(0.0, seconds)]):
            path = self.folder / f"{call_id}-{number}"
            paths.append(str(path))
            with wave.open(f"{path}.wav", "wb") as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(sound[round(begin * RATE) : round(end * RATE)].tobytes())
            kept = {"state": "ready", "sound": f"{path.name}.wav", "rate": RATE}
            long = round((end - begin) * 1000)
            Notes(call_id, str(path), started=began + begin, duration_ms=long, **kept).save()
        told = {"parts": paths, "on": False, "started": began}
        self.store.put(call_id, recording=json.dumps(told))

    async def written(self) -> None:
        """Return when Redis has it."""
        assert await self.store.flush(10)

    def loud(self, call_id: str, amplitude: int) -> None:
        """Give the call a slot, and its caller a voice as loud as that."""
        c, row = self.slots.columns, self._row
        self._row += 1
        c["state"][row], c["call_id"][row], c["t_rate"][row] = OPEN, call_id.encode(), 8
        c["up"][row][:] = amplitude * np.sin(np.arange(len(c["up"][row])))


@contextlib.asynccontextmanager
async def stage(redis: Redis, folder: Path) -> AsyncIterator[Stage]:
    """A web process on that Redis."""
    port, runtime = free_port(), folder / "run"
    runtime.mkdir(mode=0o700)
    (folder / "agents").mkdir()
    (folder / "bridge.toml").write_text(
        f'[redis]\nurl = "{redis.url}"\n[web]\nport = {port}\n'
        '[web.phone]\nurl = "ws://127.0.0.1:9/ws"\npassword = "nobody is there"\n'
        f'[agents]\nfolder = "agents"\n[media]\nruntime_dir = "{runtime}"\n'
    )
    slots = SlotMap.create(runtime / control.SLOTS, 8, 1000)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "web", "--config", str(folder / "bridge.toml")),
        env={**os.environ, VARIABLE: TOKEN, READ_VARIABLE: READER},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    store = RedisStore(RedisSettings(url=redis.url), WORKER)
    shown = Stage(store, slots, f"http://127.0.0.1:{port}/", folder)
    server = connect(redis.url, 10)
    inbox = Inbox(server, WORKER, shown.carry_out)
    tasks = [asyncio.create_task(work) for work in (store.run(), inbox.run())]
    try:
        async with asyncio.timeout(30):
            while b"API at" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        yield shown
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
        await close(server)
        process.send_signal(signal.SIGTERM)
        await process.communicate()


def a_bookshop(stage: Stage) -> None:
    """Four calls in progress, and one that is over, with all that can happen in one."""
    now = time.time()
    stage.call(
        "c1",
        64,
        caller="+44 20 7946 0112",
        latency=json.dumps(
            [turn(n, now - 60 + n * 11, 0.8 + 0.15 * n) for n in range(1, 6)] + [went_on(now - 12)]
        ),
        audio=json.dumps({"mos": 4.4, "loss_percent": 0.0, "received": 3100, "lost": 0}),
    )
    for at, role, text, more in (
        (-62, "agent", "Hello, this is Harbor Street Books. How can I help you?", _heard(3900)),
        (-52, "caller", "What are your opening hours?", {}),
        (-46, "agent", "We open at nine in the morning, Monday to Saturday.", _heard(5200)),
        (-30, "caller", "And what events do you have coming up?", {}),
        (-18, "agent", "There are four evenings this month. The first is a", _heard(3100, True)),
        (-17, "event", "barge-in", {}),
        (-15, "caller", "Sorry, do you sell gift cards?", {}),
    ):
        stage.says("c1", role, text, now + at, **more)
    stage.call(
        "c2",
        141,
        caller="+1 212 555 0187",
        engine="cascade",
        agent="support",
        codec="OPUS",
        fence=2,
        latency=json.dumps([turn(n, now - 130 + n * 20, 1.4 - 0.1 * n) for n in range(1, 7)]),
        audio=json.dumps({"mos": 4.2, "loss_percent": 0.2}),
    )
    for at, role, text, more in (
        (-60, "caller", "My order number is 204 417.", {}),
        (-52, "event", "taken over", {}),
        (-44, "agent", "Your parcel left our house on Thursday.", _heard(2600)),
    ):
        stage.says("c2", role, text, now + at, **more)
    stage.call(
        "c3",
        12,
        caller="+49 30 901820",
        codec="G722",
        worker="host-4712-9f0e",
        audio=json.dumps({"mos": 2.7, "loss_percent": 7.4, "late_ms_p95": 60}),
    )
    stage.says("c3", "agent", "Hello, this is Harbor Street Books.", now - 9, **_heard(2100))
    stage.says("c3", "caller", "Hello? I can hardly hear you.", now - 3)
    stage.says("c3", "event", "lost 31 packets of the caller's audio", now - 2)
    stage.call("c4", 3, caller="anonymous", agent="echo", engine="echo", codec="PCMA")
    over(stage, "over", now - 3600)
    in_two_parts(stage, "two", now - 7200)


_EVENINGS = (
    "There are four evenings this month. The first is a reading with a poet from the islands, on "
    "Thursday the sixth at seven. Then there is"
)


def over(stage: Stage, call_id: str, began: float) -> None:
    """A call that is over."""
    stage.call(
        call_id,
        caller="+44 20 7946 0112",
        state="ended",
        result="transferred",
        reason="extension 200",
        started=began,
        answered=began + 0.4,
        ended=began + 58,
        fence=2,
        latency=json.dumps(
            [
                turn(1, began + 9.3),
                turn(2, began + 15.3, 1.5),
                went_on(began + 19.0),
                turn(3, began + 27.4, 0.9),
            ]
        ),
        audio=json.dumps({"mos": 4.3, "loss_percent": 0.4}),
    )
    lines: tuple[tuple[float, str, str, dict[str, Any]], ...] = (
        (5.2, "agent", "Hello, this is Harbor Street Books. How can I help you?", _heard(4200)),
        (8.7, "caller", "What are your opening hours?", {}),
        (13.0, "agent", "We open at nine, Monday to Saturday.", _heard(3700)),
        (14.4, "caller", "Events?", {}),
        (24.0, "agent", _EVENINGS, _heard(8700, True)),
        (24.0, "event", "barge-in", {}),
        (26.4, "caller", "Do you sell gift cards?", {}),
        (27.0, "event", "lost 18 packets of the caller's audio", {}),
        (29.5, "event", "taken over", {}),
        (36.0, "agent", "Yes, we do: from ten to a hundred pounds.", _heard(8600)),
        (41.0, "dtmf", "0", {}),
        (45.0, "agent", "I will connect you.", _heard(1400)),
    )
    spoken: list[Spoken] = []
    for at, role, text, more in lines:
        stage.says(call_id, role, text, began + at, **more)
        if role in ("caller", "agent"):
            seconds = more["heard_ms"] / 1000 if more else 0.4 * len(text.split())
            spoken.append((int(role == "agent"), text, at - seconds, at))
    stage.record(call_id, began, 58.0, spoken)


def in_two_parts(stage: Stage, call_id: str, began: float) -> None:
    """A call that is over, whose host died."""
    stage.call(
        *(call_id,),
        caller="+33 1 70 18 99 00",
        state="ended",
        result="done",
        started=began,
        answered=began,
        ended=began + 7,
    )
    stage.says(call_id, "caller", "Where can I park?", began + 2.4)
    stage.says(call_id, "event", "taken over", began + 3.5)
    stage.says(call_id, "agent", "Behind the shop.", began + 6.5, **_heard(1900))
    spoken: list[Spoken] = [
        (0, "Where can I park?", 0.8, 2.4),
        (1, "You can park right behind the shop.", 4.6, 6.5),
    ]
    stage.record(call_id, began, 7.0, spoken, [(0.0, 3.0), (4.0, 7.0)])


def _heard(ms: int, cut: bool = False) -> dict[str, Any]:
    return {"heard_ms": ms, "cut": cut}
