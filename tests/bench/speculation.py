"""How much sooner a cascade answers because it begins before the caller's turn is over.

The engine `cascade` with the local stack (moonshine, a language model behind llama.cpp's server,
piper behind Wyoming), in real time, on a line of the tests (no PBX): the same turns with
`begin = "pause"` (the default) and with `begin = "end"`. Turns end at the same silence both times,
by the same words. Measured is the time from the caller's last voice to the answer's first audio, by
the clock: the line lets its own stand where the process is held up.

Both are said by turns, so that a machine which gets slower says nothing about either; the words
that the model has just read are another turn's both times, because its server keeps them. Where an
answer came before the turn was over, it was to half of a sentence: no time can be told of it, and
the pair is left out, and counted.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from bridge.agent import parse
from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.dialog.turns import TurnCommitted
from bridge.engines.base import Audio, CallerText, Text, Timing
from bridge.engines.rates import resample
from bridge.engines.registry import Engines
from tests.bench.machine import percentiles
from tests.bench.report import Report
from tests.bench.turns.texts import TEXTS
from tests.demo.voice import clip
from tests.lab.local import Llama, WyomingPiper
from tests.unit.engines.line import Line

TURNS = [text for half in TEXTS.values() for text in (*half.questions, *half.sentences)][::2]
"""Of the corpus of turns every other whole one: questions, which end soon, and others."""

RUNS = 3
"""In so many the bench takes all of them; in one, for development, it takes the first third."""

INSTRUCTIONS = (
    "You answer the telephone of Harbor Street Books. The shop is open from nine to six, Monday to "
    "Saturday. Customers park behind the shop. Books can be returned within thirty days. Be brief."
)


def agent(url: str, voice: str, begin: str):
    """An agent of the local stack."""
    return parse(
        {
            "engine": "cascade",
            "cascade": {"begin": begin},
            "stt": {"provider": "moonshine"},
            "llm": {
                "provider": "openai",
                "url": url,
                "instructions": INSTRUCTIONS,
                "temperature": 0.0,
                "max_tokens": 40,
                "tools": False,
            },
            "tts": {"provider": "wyoming", "url": voice},
        },
        "local",
        "local.toml",
    )


class Clocked(Line):
    """A line that notes by the clock when it gave each frame, and when audio came."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.gave: list[float] = []
        self.sounded: float | None = None

    async def step(self, pcm, speech):
        self.gave.append(time.monotonic())
        await super().step(pcm, speech)

    def _emit(self, event):
        if isinstance(event, Audio) and self.sounded is None:
            self.sounded = time.monotonic()
        super()._emit(event)


async def answer(engines, who, turn) -> dict[str, Any]:
    """What became of a turn: ms from its last voice to each stage of its answer, and the words."""
    pcm = resample(decode_ulaw(encode_ulaw(clip(turn).pcm)), 8000, 16000)
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 300)
    async with Clocked(await engines.create(who), who, real_time=True) as call:
        await call.silence(300)
        frame = len(call.gave) + int(loud[-1]) // call.frame
        await call.speak(pcm)
        await call.until(lambda: call.sounded is not None)
        ended = call.gave[call.when(TurnCommitted)[-1] // 20]
        timing = call.of(Timing)[-1]
        stages = {
            "heard": timing.heard,
            "transcript": timing.transcript,
            "end": ended,
            "first_token": timing.first_token,
            "audio": call.sounded,
        }
        return {
            "words": [e.text for e in call.of(CallerText) if e.final][-1:],
            "sentence": call.of(Text)[0].text,
            "ends": len(call.commits()),
            **{k: round((v - call.gave[frame]) * 1000) for k, v in stages.items() if v is not None},
        }


async def measure(turns=TURNS) -> list[dict[str, Any]]:
    """Each turn with what became of it, without and with the early start: "end" and "pause"."""
    with Llama(calls=1) as llama, WyomingPiper() as piper:
        engines = Engines()
        try:
            late, soon = (agent(llama.url, piper.url, begin) for begin in ("end", "pause"))
            for who in (late, soon):
                await engines.prepare(who)
                await answer(engines, who, turns[-1])  # the first one loads
            found: dict[str, dict[str, Any]] = {turn: {"turn": turn} for turn in turns}
            for before, turn in zip([turns[-1], *turns], turns, strict=False):
                found[turn]["end"] = await answer(engines, late, turn)
                found[before]["pause"] = await answer(engines, soon, before)
        finally:
            await engines.close()
    return list(found.values())


def saved_ms(pair: dict[str, Any]) -> int | None:
    """What the early start of one turn saved; None: it was taken for two."""
    late, soon = pair["end"], pair["pause"]
    if max(late["ends"], soon["ends"]) > 1 or min(late["end"], soon["end"]) < 0:
        return None
    return int(late["audio"] - soon["audio"])


def speculation(report: Report, count: int) -> None:
    """`speculation.first_audio_saved_ms`: each run takes every third turn."""
    runs, details, cut = [], [], 0
    for n in range(report.runs):
        turns = TURNS[n::RUNS]
        report.say(f"run {n + 1} of {report.runs}: {len(turns)} turns, each said twice")
        pairs = asyncio.run(measure(turns))
        saved = [ms for pair in pairs if (ms := saved_ms(pair)) is not None]
        cut += len(pairs) - len(saved)
        runs.append(percentiles(saved, (10, 50, 90)))
        details.append([{**pair, "saved": saved_ms(pair)} for pair in pairs])
        report.say(f"run {n + 1}: saved {runs[-1]}")
    report.medians("speculation.first_audio_saved_ms", runs, taken_for_two=cut, each=details)
