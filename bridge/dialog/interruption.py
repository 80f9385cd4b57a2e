"""Whether speech against the agent interrupts it, or is nothing that it should fall silent for.

Theory of operation. The agent is paused before the first of these questions is asked, and nothing
is lost by that: so the decision takes its time. While it is open, every frame and every word is
evidence:

    INTERRUPTS  he has spoken for `min_speech_while_speaking_ms`, gaps up to `GAP_MS` included (half
                as long again if all that was made out is a backchannel)
                words that mean something, in `SOME_MS` of speech or at its end
                any other word that he has left standing for `SETTLED_MS` of silence, or less where
                he would have spoken for long enough by now
    NOTHING     he left a mere backchannel standing, or speech of which the recogniser makes nothing
                `resume_ms` of silence, and no words have come: told as `WORDLESS`
                no speech behind `NOISE_MS`, or somebody's in the background, or so much of what
                is no certain voice: told as `NOISE`

What a recogniser makes of the first syllable of a sentence, or of a hum that isn't over, is a word
as often as not ("But I'm", "Come,"). So words of less than `SOME_MS` count for nothing while he
speaks on, and nothing is refuted before he has been silent for a while. And whatever is said or
seems to be, nothing interrupts before the detectors are certain that it is his voice.
"""

from __future__ import annotations

from enum import Enum

from bridge.agent import TurnSettings
from bridge.dialog.backchannels import Weight
from bridge.dialog.endpointing import FRAME_MS, Endpointer, Phase

GAP_MS = 260
"""Silence that ends a stretch of speech."""

SOME_MS = 480
"""Words of a voice that goes on count from so much speech on; few hums are as long."""

LISTENED, FRESH_MS = 1.5, 300
"""So many times as long he has to speak if all that has been made out is a backchannel, as long as
these words are no older."""

CLOSURE = 0.1
"""So much of it may be silence at its end: a plosive's closure."""

PAUSE_MS = 60
"""Silence behind which words hold all that he has said so far."""

SETTLED_MS = 200
"""Silence behind which he has said it: the eager end of a turn."""

NOISE_MS = 160
"""So long after a pause (or the last sound that might be speech) it was no speech."""

REST_MS, LONGEST_REST_MS = 500, 4000
"""How long the reflex isn't armed after a false alarm, doubled at each one in a row."""


class Finding(Enum):
    """See above."""

    INTERRUPTS = "interrupts"
    NOTHING = "nothing"
    WORDLESS = "wordless"
    NOISE = "noise"


class Interruption:
    """The evidence of one call."""

    def __init__(self, settings: TurnSettings) -> None:
        """Nothing is known yet."""
        self._settings = settings
        self.start_ms = 0
        """Where the present stretch of speech began."""
        self.voiced_ms = 0
        """Speech in it."""
        self.far = False
        """What speaks is somebody in the background."""
        self.certain = False
        """It is certainly the caller who speaks, and no cough or the like of his: without that
        nothing interrupts."""
        self.discredited = False
        """So long a voice would be certain by now: it is none."""
        self.rest_until_ms = 0
        """Until then noises have raised too many false alarms for the reflex."""
        self._end_ms: int | None = None
        self._weight: Weight | None = None
        self._until_ms = 0
        self._alarms = 0  # false ones in a row

    @property
    def began(self) -> bool:
        """Whether there was speech in the present stretch."""
        return self._end_ms is not None

    @property
    def unlikely(self) -> bool:
        """Whether the present stretch was found to be no voice, and still is none."""
        return self.discredited and not self.certain

    def anew(self) -> None:
        """Whatever comes now is another stretch."""
        self._end_ms = self._weight = None
        self.far = self.certain = self.discredited = False

    def goes_on(self) -> None:
        """The agent does, but what sounds soon belongs to what sounded last: the first syllable
        may have been taken for a noise."""
        self._weight = None
        self.far = False

    def speech(self, at_ms: int) -> None:
        """A frame of speech."""
        if self._end_ms is None or at_ms - self._end_ms > GAP_MS:
            self.start_ms, self.voiced_ms, self._weight = at_ms, 0, None
            self.certain = self.discredited = False
        self._end_ms = at_ms + FRAME_MS
        self.voiced_ms += FRAME_MS

    def speech_goes_on(self, end_ms: int, ms: int) -> None:
        """So much more of the stretch, up to there."""
        self._end_ms = end_ms
        self.voiced_ms += ms

    def words(self, weight: Weight, until_ms: int) -> None:
        """What he said up to `until_ms` weighs so much."""
        self._weight, self._until_ms = weight, until_ms

    def false_alarm(self, at_ms: int) -> None:
        """A noise has paused the agent."""
        rest_ms = min(REST_MS * 2**self._alarms, LONGEST_REST_MS)
        self._alarms = min(self._alarms + 1, 8)
        self.rest_until_ms = at_ms + rest_ms

    def no_alarm(self) -> None:
        """It was he who has paused the agent."""
        self._alarms = 0

    def find(
        self, now_ms: int, speaking: bool, paused_ms: int, endpoint: Endpointer
    ) -> Finding | None:
        """What it is; None: nobody can tell yet.

        Args:
            now_ms: end of the last frame.
            speaking: there was speech in it.
            paused_ms: since when the agent is paused.
            endpoint: where his segment of speech stands.
        """
        if self.far:
            return Finding.NOISE
        if endpoint.phase is not Phase.SPEECH:
            over = endpoint.phase is Phase.SILENT and now_ms - paused_ms >= NOISE_MS
            return Finding.NOISE if over else None
        long_ms = now_ms - self.start_ms
        silence_ms = now_ms - endpoint.end_ms
        least_ms: float = self._settings.min_speech_while_speaking_ms
        speaks = speaking or silence_ms <= CLOSURE * least_ms
        if self._weight is Weight.BACKCHANNEL and now_ms - self._until_ms <= FRESH_MS:
            least_ms *= LISTENED
        if speaks and long_ms >= least_ms and 2 * self.voiced_ms >= long_ms:
            self.discredited = not self.certain
            return Finding.NOISE if self.discredited else Finding.INTERRUPTS
        found = self._said(silence_ms, long_ms >= least_ms, endpoint)
        if found is None and now_ms - max(endpoint.end_ms, paused_ms) >= self._settings.resume_ms:
            return Finding.WORDLESS
        return found

    def _said(self, silence_ms: int, long: bool, endpoint: Endpointer) -> Finding | None:
        """What his words tell; `long`: had he spoken on, that alone would interrupt."""
        whole = self._until_ms >= endpoint.end_ms
        stands = whole and silence_ms >= PAUSE_MS
        settled = whole and silence_ms >= SETTLED_MS
        match self._weight:
            case None:
                return None
            case Weight.WORDS:
                some = self._until_ms - endpoint.start_ms >= SOME_MS
                meant = some or stands
            case Weight.WORD:
                meant = settled or (stands and long)
            case _:
                return Finding.NOTHING if settled else None
        return Finding.INTERRUPTS if meant and self.certain else None
