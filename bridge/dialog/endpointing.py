"""Makes segments of speech out of one decision a frame.

A detector says of every 20 ms frame whether there is speech in it. It errs in both directions: it
misses the closure of a plosive, and fires on a click. Two counters smooth that:

    silent ──speech──▶ maybe ──min_speech_ms of speech──▶ speech ──end_silence_ms──▶ silent
                         │                                │  ▲
                         └──GAP_MS of silence──▶ silent   └──┘ pause_silence_ms of silence (told),
                                                               eager_silence_ms (told), then maybe
                                                               RESUME_MS of speech (told)

A segment's `start_ms` is its first frame of speech, its `end_ms` the end of its last one, so
neither holds the time that it took to be sure. All times are milliseconds of the caller's audio.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FRAME_MS = 20
"""Length of the frame that one decision speaks of."""

GAP_MS = 160
"""A beginning that pauses for longer was none (a plosive's closure takes 50 to 150 ms)."""

LEAK_MS = 7
"""What a silent frame takes from a beginning: scattered false frames, even every fourth, never add
up to one, and a closure costs little."""

RESUME_MS = 60
"""Shorter speech does not end a silence: a wrong frame or two must not keep a turn open. As long as
it lasts the silence ends nothing either: it may be the beginning of more."""


class Phase(Enum):
    """Where a segment stands."""

    SILENT = "silent"
    MAYBE = "maybe"
    SPEECH = "speech"


class Edge(Enum):
    """What a frame changed."""

    ONSET = "onset"
    PAUSE = "pause"
    EAGER = "eager"
    RESUMED = "resumed"
    END = "end"


@dataclass(slots=True)
class Endpointer:
    """One call's segments of speech.

    `end_silence_ms` may be changed at any time, also within a silence; `settle` changes it for the
    present silence only (a sentence that sounds whole, or unfinished).
    """

    min_speech_ms: int
    end_silence_ms: int
    eager_silence_ms: int = 0
    """0: no `EAGER` edges."""
    pause_silence_ms: int = 0
    """0: no `PAUSE` edges."""

    phase: Phase = Phase.SILENT
    start_ms: int = 0
    """Of the present or last segment: its first frame of speech."""
    end_ms: int = 0
    """End of its last frame of speech so far."""
    voiced_ms: int = 0
    """How much speech it has held so far."""
    eager: bool = False
    """Whether the present silence has been long enough for an `EAGER` edge."""
    settled_ms: int | None = None
    """What `settle` said of the present silence."""
    _run_ms: int = 0
    _score_ms: int = 0
    _paused: bool = False

    def frame(self, at_ms: int, speech: bool) -> Edge | None:
        """Take the decision on the frame that begins at `at_ms`; frames come in order."""
        if speech:
            return self._speech(at_ms)
        self._run_ms = 0
        if self.phase is Phase.SILENT:
            return None
        silence_ms = at_ms + FRAME_MS - self.end_ms
        if self.phase is Phase.MAYBE:
            self._score_ms -= LEAK_MS
            if silence_ms > GAP_MS or self._score_ms <= 0:
                self.reset()
            return None
        return self._silence(silence_ms)

    @property
    def steady(self) -> bool:
        """Whether more frames of speech only make the segment longer."""
        return self.phase is Phase.SPEECH and self._run_ms >= RESUME_MS

    @property
    def edge_ms(self) -> int:
        """In a silence of a segment: with the frame that ends there, or later, more silence means
        something again."""
        silences = [self.end_silence_ms if self.settled_ms is None else self.settled_ms]
        if not self.eager:
            silences.append(self.eager_silence_ms or silences[0])
        if not self._paused:
            silences.append(self.pause_silence_ms or silences[0])
        return self.end_ms + min(silences)

    @property
    def least_end_ms(self) -> int:
        """Of a segment: no frame that ends before can be its end."""
        limit_ms = self.end_silence_ms
        if self.settled_ms is not None and self.settled_ms < limit_ms:
            limit_ms = self.settled_ms
        return self.end_ms + limit_ms

    def speech_goes_on(self, end_ms: int, ms: int) -> None:
        """So much more speech has come, up to there; only while `steady`."""
        self.end_ms = end_ms
        self.voiced_ms += ms
        self._score_ms += ms
        self._run_ms += ms

    def settle(self, end_silence_ms: int) -> None:
        """Let the present silence end the segment after so much; the next frame may do so."""
        self.settled_ms = end_silence_ms

    def reset(self) -> None:
        """Forget the present segment."""
        self.phase = Phase.SILENT
        self.voiced_ms = 0
        self._run_ms = 0
        self._paused = self.eager = False
        self.settled_ms = None

    def _speech(self, at_ms: int) -> Edge | None:
        end_ms = at_ms + FRAME_MS
        self._run_ms += FRAME_MS
        if self.phase is Phase.SILENT:
            self.phase = Phase.MAYBE
            self.start_ms = at_ms
            self.voiced_ms = self._score_ms = 0
        self.voiced_ms += FRAME_MS
        self._score_ms += FRAME_MS
        if self.phase is Phase.MAYBE:
            self.end_ms = end_ms
            if self._score_ms < self.min_speech_ms:
                return None
            self.phase = Phase.SPEECH
            return Edge.ONSET
        if self._run_ms >= RESUME_MS or end_ms - self.end_ms <= RESUME_MS:
            self.end_ms = end_ms
            self._paused = False
            self.settled_ms = None
            if self.eager:
                self.eager = False
                return Edge.RESUMED
            return None
        return self._silence(end_ms - self.end_ms, over=False)

    def _silence(self, silence_ms: int, over: bool = True) -> Edge | None:
        limit_ms = self.end_silence_ms if self.settled_ms is None else self.settled_ms
        if over and silence_ms >= limit_ms:
            self.reset()
            return Edge.END
        if self.eager_silence_ms and not self.eager and silence_ms >= self.eager_silence_ms:
            self._paused = self.eager = True
            return Edge.EAGER
        if self.pause_silence_ms and not self._paused and silence_ms >= self.pause_silence_ms:
            self._paused = True
            return Edge.PAUSE
        return None
