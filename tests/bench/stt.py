"""What a lossy line costs the offline speech-to-text, in points of word accuracy."""

from __future__ import annotations

import statistics

import numpy as np

from bridge.audio.resample import ResamplerBank
from tests.bench.concealment import random_pattern, through_the_plane
from tests.bench.corpus import utterances
from tests.bench.generator import FRAME
from tests.bench.report import Report
from tests.demo.words import normal
from tests.lab.capture import RATE, Pcm
from tests.lab.root import LabError

MODEL_RATE = 16_000
LOSS = 0.03
UTTERANCES = 60


class Listener:
    """The demo's speech-to-text, given what the bridge would give it: its resampler's 16 kHz."""

    def __init__(self) -> None:
        try:
            from moonshine_voice import Transcriber, get_model_path
            from moonshine_voice.moonshine_api import ModelArch
        except ImportError:
            raise LabError("moonshine is not installed: run 'make setup'") from None
        self._model = Transcriber(
            str(get_model_path("tiny-en")), ModelArch.TINY, options={"vad_threshold": "0"}
        )

    def close(self) -> None:
        self._model.close()

    def words(self, pcm: Pcm) -> list[str]:
        quiet = np.zeros(RATE // 5, np.int16)
        line = np.concatenate([quiet, pcm, quiet])
        bank = ResamplerBank(RATE, MODEL_RATE, 1)
        line = line[: len(line) // bank.block * bank.block]
        sound = bank.process(np.zeros(1, np.intp), line[None, :])[0]
        heard = self._model.transcribe_without_streaming(
            (sound.astype(np.float32) / 32768).tolist(), MODEL_RATE
        )
        return normal(" ".join(one.text for one in heard.lines))


def lost_points(report: Report) -> None:
    """`stt_points_lost_at_3_pct_loss`."""
    listener = Listener()
    try:
        corpus = utterances()[:UTTERANCES]
        sounds = [one.pcm[: len(one.pcm) // FRAME * FRAME] for one in corpus]
        truth = [normal(one.text) for one in corpus]
        report.say(f"speech-to-text: {len(corpus)} utterances on a clean line")
        clean = _accuracy(truth, [_through(listener, pcm, 0.0, 0) for pcm in sounds])
        lossy = []
        for seed in range(1, report.runs + 1):
            report.say(f"speech-to-text: {LOSS:.0%} loss, pattern {seed} of {report.runs}")
            heard = [_through(listener, pcm, LOSS, seed * 1000 + i) for i, pcm in enumerate(sounds)]
            lossy.append(_accuracy(truth, heard))
    finally:
        listener.close()
    report.median(
        "stt_points_lost_at_3_pct_loss",
        [clean - one for one in lossy],
        accuracy_clean=round(clean, 2),
        accuracy_lossy=round(statistics.median(lossy), 2),
        utterances=len(corpus),
        words=sum(map(len, truth)),
    )


def _through(listener: Listener, pcm: Pcm, loss: float, seed: int) -> list[str]:
    return listener.words(through_the_plane(pcm, random_pattern(len(pcm) // FRAME, loss, seed)))


def _accuracy(truth: list[list[str]], heard: list[list[str]]) -> float:
    """100 less the word error rate, in per cent."""
    wrong = sum(map(_errors, truth, heard))
    return 100 - 100 * wrong / sum(map(len, truth))


def _errors(truth: list[str], heard: list[str]) -> int:
    """Words put in, left out and taken for others."""
    row = list(range(len(heard) + 1))
    for i, want in enumerate(truth, 1):
        last, row[0] = row[0], i
        for j, got in enumerate(heard, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (want != got))
    return row[-1]
