"""The pure layers on the corpus, without a call: for tuning, and for counts beyond the real calls.

Every clip is a call of its own. All calls advance together, 20 ms a step: a frame goes through PCMU
as a phone sends it, the first-stage detector judges the frames of all calls in one batch as the
media process does, and each call's `Turns` decides. Where the agent speaks, it plays a fixed voice;
what it really plays (paused, dropped) is what comes back as an echo.

What takes real time elsewhere takes a fixed time here: words are known `WORDS_MS` after they were
asked for. They come from the real recogniser and are kept in the cache.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.agent import Agent, load
from bridge.audio import g711, speech
from bridge.audio.columns import heap
from bridge.dialog.turns import Turns
from tests.bench.turns.corpus import ECHO_DB, Clip, folder
from tests.bench.turns.voices import say
from tests.lab.capture import RATE, Pcm
from tests.lab.root import REPOSITORY

FRAME_MS = 20
FRAME = RATE * FRAME_MS // 1000
AGENT_AT_MS = 1000
"""When the agent begins, where it speaks; the line's noise is there from the beginning."""
CLIP_AT_MS = 3010
"""When the clip begins: not on a frame's edge."""
AFTER_MS = 2500
"""How long a call goes on after its clip."""
WORDS_MS = 120
"""From asking for words to having them."""
PRE_MS, POST_MS = 240, 120
"""Audio around the speech that is transcribed, as the cascade does."""

AGENT_SAYS = (
    "We have four evenings coming up.",
    "On Thursday at seven, the poet Anna Reyes reads from her new collection, and there will be "
    "tea and cake.",
    "On Friday at eight, the historian Paul Keller talks about the ships that were lost in our "
    "harbor.",
)

Frames = npt.NDArray[np.int16]


@functools.cache
def agent_voice() -> Frames:
    """What the agent says, as whole frames (n, 160)."""
    lines = [say("piper:joe", line) for line in AGENT_SAYS]
    whole = np.concatenate([part for line in lines for part in (line, np.zeros(1440, np.int16))])
    return whole[: len(whole) // FRAME * FRAME].reshape(-1, FRAME)


@dataclass
class Case:
    """One clip as a call, and what came of it. Times are ms of the call's audio."""

    clip: Clip
    frames: Frames
    turns: Turns
    agent: Agent
    speaks: bool
    """The agent does, from `AGENT_AT_MS`."""
    playing: bool = False
    paused: bool = False
    played: int = 0
    """Frames of the agent's audio that went out."""
    line: Frames = field(default_factory=lambda: np.zeros((0, FRAME), np.int16))
    """What went out, frame by frame, silence included."""
    log: list[tuple[int, Any]] = field(default_factory=list)
    speech: list[bool] = field(default_factory=list)
    asked: list[tuple[int, int, str]] = field(default_factory=list)
    """Words that will be known: when, up to where they reach, what they are."""

    def first(self, *kinds: str, after_ms: float = -1e9) -> tuple[int, Any] | None:
        """The first action of such a class name from then on, and when it was given."""
        for at_ms, action in self.log:
            if at_ms >= after_ms and type(action).__name__ in kinds:
                return at_ms, action
        return None

    @property
    def onset_ms(self) -> float:
        """Of the voice, in the call's audio."""
        return CLIP_AT_MS + (self.clip.onset_ms if self.clip.speech else 0.0)

    @property
    def end_ms(self) -> float:
        """End of the voice, or of the noise."""
        return CLIP_AT_MS + (self.clip.end_ms if self.clip.speech else self.clip.length_ms)


def run(clips: Sequence[Clip], agent: Agent | None = None) -> list[Case]:
    """Hold the calls of some clips."""
    agent = agent or load(REPOSITORY / "agents", "demo")
    cases = [_case(clip, agent) for clip in clips]
    bank = speech.SpeechBank(heap(speech.SPEC, len(cases)))
    length = max(len(case.frames) for case in cases)
    for k in range(length):
        rows = np.array([n for n, case in enumerate(cases) if k < len(case.frames)], np.intp)
        pcm = np.stack([_caller_frame(cases[n], k) for n in rows])
        heard = g711.decode_ulaw(g711.encode_ulaw(pcm))
        for n, frame, flag in zip(rows, heard, bank.judge(rows, heard), strict=True):
            cases[n].frames[k] = frame
            _step(cases[n], k, bool(flag))
    return cases


def _case(clip: Clip, agent: Agent) -> Case:
    total_ms = CLIP_AT_MS + clip.length_ms + AFTER_MS
    count = int(total_ms // FRAME_MS) + 1
    samples = clip.bed_pcm(count * FRAME_MS / 1000).astype(np.int32)[: count * FRAME]
    if not clip.echo_ms:
        at = CLIP_AT_MS * RATE // 1000
        samples[at : at + len(clip.pcm)] += clip.pcm
    frames = np.clip(samples, -32768, 32767).astype(np.int16).reshape(count, FRAME)
    speaks = clip.kind in ("interruption", "false")
    case = Case(clip, frames, Turns(agent.turns), agent, speaks)
    case.line = np.zeros((count, FRAME), np.int16)
    return case


def _caller_frame(case: Case, k: int) -> Pcm:
    """What the phone sends: its caller, and where there is one, the echo of what it received."""
    if not case.clip.echo_ms:
        return case.frames[k]
    back = case.clip.echo_ms * RATE // 1000
    end = k * FRAME + FRAME - back
    got = case.line.reshape(-1)[max(end - FRAME, 0) : max(end, 0)]
    echo = np.zeros(FRAME)
    echo[FRAME - len(got) :] = got * 10 ** (ECHO_DB / 20)
    return (case.frames[k] + echo).astype(np.int16)


def _step(case: Case, k: int, flag: bool) -> None:
    at_ms = k * FRAME_MS
    if case.speaks and at_ms == AGENT_AT_MS:
        case.playing = True
        case.turns.agent_started()
    case.speech.append(flag)
    while case.asked and case.asked[0][0] <= at_ms:
        _words(case, *case.asked.pop(0))
    for action in case.turns.frame(at_ms, flag):
        _act(case, at_ms, action)
    if case.playing and not case.paused:
        voice = agent_voice()
        case.line[k] = voice[case.played % len(voice)]
        case.played += 1


def _act(case: Case, at_ms: int, action: Any) -> None:
    case.log.append((at_ms + FRAME_MS, action))  # decided when the frame is there
    match type(action).__name__:
        case "BargeIn":
            case.playing = case.paused = False
        case "AgentPaused":
            case.paused = True
        case "AgentResumed":
            case.paused = False
        case "TurnPausing" | "TurnEager":
            start, end = action.start_ms - PRE_MS, min(action.end_ms + POST_MS, at_ms + FRAME_MS)
            audio = case.frames.reshape(-1)[max(start, 0) * RATE // 1000 : end * RATE // 1000]
            case.asked.append((at_ms + WORDS_MS, action.end_ms, words(audio)))


def _words(case: Case, at_ms: int, until_ms: int, text: str) -> None:
    case.log.append((at_ms, text))
    if not hasattr(case.turns, "words"):
        return
    from bridge.dialog.completeness import end_silence_ms

    understood = _brain(case.agent.file).understands(text, None) if text else None
    case.turns.words(until_ms, end_silence_ms(case.agent.turns, text, "", understood))


@functools.cache
def _brain(file: str) -> Any:
    """The demo agent's, which says how well it understood."""
    from bridge.engines.base import Shared
    from bridge.engines.offline import OfflineProvider

    return OfflineProvider(load(Path(file).parent, Path(file).stem), Shared())._brain


# ---- words ---------------------------------------------------------------------------------------


class _Words:
    """The recogniser with a memory on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        self._model: Any = None
        self._new = 0

    def of(self, pcm: Pcm) -> str:
        key = hashlib.sha256(pcm.tobytes()).hexdigest()[:24]
        if key not in self._known:
            self._known[key] = self._transcribe(pcm)
            self._new += 1
            if self._new % 50 == 0:
                self.save()
        return self._known[key]

    def save(self) -> None:
        if self._new:
            self._path.write_text(json.dumps(self._known))

    def _transcribe(self, pcm: Pcm) -> str:
        from bridge.engines.rates import resample
        from bridge.engines.stt_moonshine import Moonshine, _load

        if self._model is None:
            self._model = Moonshine(_load(), None)  # type: ignore[arg-type]
        return self._model._work(resample(pcm, RATE, Moonshine.rate))


@functools.cache
def _recogniser() -> _Words:
    return _Words(folder().parent / "turns-words.json")


def words(pcm: Pcm) -> str:
    """What 8 kHz samples say, by the engine's recogniser."""
    return _recogniser().of(pcm)


def save_words() -> None:
    """Keep what was transcribed for the next run."""
    _recogniser().save()
