"""How much sooner a cascade answers because it begins before the caller's turn is over.

The engine `cascade` with the local stack (moonshine, a language model behind llama.cpp's server,
piper behind Wyoming), in real time, on a line of the tests (no PBX): the same turns with
`begin = "pause"` (the default) and with `begin = "end"`. Turns end at the same silence both times,
by the same words. Measured is the time from the caller's last voice to the answer's first audio.
"""

from __future__ import annotations

import asyncio

import numpy as np

from bridge.agent import parse
from bridge.audio.g711 import decode_ulaw, encode_ulaw
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


async def answers_after_ms(engines, who, turns) -> list[int]:
    """From each turn's last voice to its answer's first audio, ms of the line."""
    found = []
    for turn in turns:
        pcm = resample(decode_ulaw(encode_ulaw(clip(turn).pcm)), 8000, 16000)
        loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 300)
        async with Line(await engines.create(who), who, real_time=True) as call:
            await call.silence(300)
            last_ms = call.at_ms + int(loud[-1]) // 16
            await call.speak(pcm)
            await call.until(lambda call=call: "agent audio" in [what for _, what in call.log])
            first = next(at for at, what in call.log if what == "agent audio")
            found.append(first - last_ms)
    return found


async def measure(turns=TURNS) -> dict[str, list[int]]:
    """Ms from the last voice to the first audio, for each turn: "end" and "pause"."""
    took: dict[str, list[int]] = {}
    with Llama(calls=1) as llama, WyomingPiper() as piper:
        engines = Engines()
        try:
            for begin in ("end", "pause"):
                who = agent(llama.url, piper.url, begin)
                await engines.prepare(who)
                await answers_after_ms(engines, who, turns[:1])  # the first one loads
                took[begin] = await answers_after_ms(engines, who, turns)
        finally:
            await engines.close()
    return took


def speculation(report: Report, count: int) -> None:
    """`speculation.first_audio_saved_ms`: each run takes every third turn."""
    saved, details = [], []
    for n in range(report.runs):
        turns = TURNS[n :: report.runs]
        report.say(f"run {n + 1} of {report.runs}: {len(turns)} turns, each said twice")
        took = asyncio.run(measure(turns))
        saved.append(percentiles(np.subtract(took["end"], took["pause"]), (10, 50, 90)))
        details.append(took)
        report.say(f"run {n + 1}: saved {saved[-1]}")
    report.medians("speculation.first_audio_saved_ms", saved, each=details)
