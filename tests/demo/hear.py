"""What was said in a recording: Moonshine, offline, one stretch of speech at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.lab.capture import RATE, Pcm
from tests.lab.speech import regions, resample

LONGEST_S = 12  # of what is recognised at once: its accuracy falls on longer recordings
SENTENCE_PAUSE_MS = 350
MARGIN = RATE // 5
MODEL_RATE = 16000
SPEEDS = (1.0, 0.94, 1.06)


class Listener:
    """Speech to text. Load once; `close` when done."""

    def __init__(self) -> None:
        from moonshine_voice import Transcriber, get_model_path
        from moonshine_voice.moonshine_api import ModelArch

        self._model = Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY)

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def texts(self, pcm: Pcm) -> Iterator[str]:
        """What 8 kHz samples say, as they are and then played a little slower and faster.

        A model this small mistakes a word in twelve, another one at another speed: whoever listens
        for something may listen again. Empty texts where there is no speech.
        """
        parts = pieces(pcm)
        for speed in SPEEDS:
            rate = round(RATE * speed)
            yield " ".join(filter(None, (self._sentence(resample(p, rate, RATE)) for p in parts)))

    def _sentence(self, pcm: Pcm) -> str:
        silence = np.zeros(MARGIN, np.int16)
        sound = resample(np.concatenate([silence, pcm, silence, silence]), RATE, MODEL_RATE)
        heard = self._model.transcribe_without_streaming(
            (sound.astype(np.float32) / 32768).tolist(), MODEL_RATE
        )
        return " ".join(line.text.strip() for line in heard.lines)


def pieces(pcm: Pcm) -> list[Pcm]:
    """A recording cut at its pauses into pieces of whole sentences, at most `LONGEST_S` long."""
    parts: list[tuple[int, int]] = []
    for start, end in regions(pcm, bridge_ms=SENTENCE_PAUSE_MS):
        if parts and end - parts[-1][0] <= LONGEST_S * RATE:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    margin = RATE // 20  # soft edges of words below the threshold
    return [pcm[max(start - margin, 0) : end + margin] for start, end in parts]
