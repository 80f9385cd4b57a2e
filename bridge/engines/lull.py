"""Hears in a caller's audio that his voice has just stopped, before anybody calls that a pause.

The speech detector calls a frame speech or not, and the dialog waits 80 ms before it speaks of a
pause. Whoever wants the words as soon as all of them are there can't wait for that: once the level
has been `DROP_DB` below the loudest of this speech for `LULL_MS`, they probably are. It is wrong at
every other closure of a plosive, which costs a transcription, and never right in loud noise, where
the pause has to do. And it hears when he goes on.
"""

from __future__ import annotations

import numpy as np

from bridge.engines.hearing import Hearing

FRAME_MS = 20
LULL_MS = 40
DROP_DB = 30
"""Of 23 sentences (a voice on a telephone line) 20 dB were reached while the voice still went on in
15, 28 dB in 9 (by a frame), 32 dB in one; there 1.0 closures a sentence are taken for its end."""

BACK_MS = 60
"""So much voice behind a lull is more than a click."""

MOST_MS = 1000
"""So much is looked at in one go: behind an hour on hold it is the last of the silence."""

_DROP = 10 ** (DROP_DB / 10)


class Lull:
    """One call's; at `back_ms` the voice was there again for `BACK_MS`, behind a lull."""

    def __init__(self) -> None:
        """`began` comes first."""
        self._until_ms = self._quiet_ms = self._voiced_ms = 0
        self._loud = 0.0
        self._looked = False
        self.back_ms = 0

    def began(self, at_ms: int) -> None:
        """The caller's speech began there."""
        self._until_ms, self._quiet_ms, self._voiced_ms = at_ms, 0, 0
        self._loud, self._looked = 0.0, False

    @property
    def lasts(self) -> bool:
        """Whether there is one now."""
        return self._quiet_ms >= LULL_MS

    def grew(self, hearing: Hearing) -> bool:
        """More audio has come. Returns whether there is a lull that wasn't looked at yet."""
        count = (hearing.end_ms - self._until_ms) // FRAME_MS
        if count > 0:
            self._until_ms = until_ms = self._until_ms + count * FRAME_MS
            count = min(count, MOST_MS // FRAME_MS)
            pcm = hearing.cut(until_ms - count * FRAME_MS, until_ms)
            for n, frame in enumerate(np.array_split(pcm.astype(np.float32), count), 1):
                if self._frame(float(np.dot(frame, frame))):
                    self.back_ms = until_ms - (count - n) * FRAME_MS
        return self.lasts and not self._looked

    def looked(self) -> None:
        """What was said up to now is being transcribed."""
        self._looked = self.lasts

    def _frame(self, energy: float) -> bool:
        """Returns whether he goes on."""
        self._loud = max(self._loud, energy)
        if energy * _DROP < self._loud:
            self._quiet_ms += FRAME_MS
            self._voiced_ms = 0
            return False
        if self.lasts or self._voiced_ms:
            self._voiced_ms += FRAME_MS
        self._quiet_ms, self._looked = 0, False
        return self._voiced_ms == BACK_MS
