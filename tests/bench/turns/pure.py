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
import importlib
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.agent import Agent, load
from bridge.audio import g711, speech
from bridge.audio.columns import heap
from bridge.audio.echo import ECHO as OURS
from bridge.audio.echo import likeness
from bridge.audio.hum import is_hum
from bridge.dialog.completeness import end_silence_ms
from bridge.dialog.turns import State, Turns
from bridge.engines import stt_moonshine
from bridge.engines.listening import AFTER_PAUSE, EVERY_MS, FIRST_MS, PRE_ROLL_MS, read_as
from bridge.media import reflex
from bridge.media.handle import DELAYS, LOUDEST_DB, ONSET, TRIPS_AT
from bridge.media.reflex import ReflexBank
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
WORDS_MS = 100
"""From asking for words to having them."""

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
    listening: _Listening = field(default_factory=lambda: _Listening())

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


@dataclass
class _Listening:
    """Glimpses of a growing turn, as `bridge.engines.listening` takes them."""

    start_ms: int = 0
    left: int = 0
    due_ms: int = 0
    wanted: bool = False
    ready: tuple[int, int, Pcm, int] | None = None
    """Words under way: when they are known, up to where they reach, of which audio, read how."""
    looks: tuple[int, int] = (-1, 0)
    """Where the silence begins that was looked at last, and how often before."""


def run(clips: Sequence[Clip], agent: Agent | None = None) -> list[Case]:
    """Hold the calls of some clips."""
    agent = agent or load(REPOSITORY / "agents", "demo")
    cases = [_case(clip, agent) for clip in clips]
    columns = heap({**speech.SPEC, **reflex.SPEC}, len(cases))
    columns["s_above_db"][:], columns["s_least_db"][:] = speech.thresholds(agent.turns.sensitivity)
    bank, reflexes = speech.SpeechBank(columns), ReflexBank(columns)
    ears = _ears(len(cases))
    opened = [ears.open(n, agent.turns.sensitivity) if ears else None for n in range(len(cases))]
    length = max(len(case.frames) for case in cases)
    for k in range(length):
        rows = np.array([n for n, case in enumerate(cases) if k < len(case.frames)], np.intp)
        pcm = np.stack([_caller_frame(cases[n], k) for n in rows])
        heard = g711.decode_ulaw(g711.encode_ulaw(pcm))
        flags, level = bank.judge(rows, heard)
        flags &= ~reflexes.heard(rows, level, flags)
        if k % 4 == 0:  # as often as media does
            bank.learn()
            reflexes.learn()
        trips = columns["reflex_count"] != columns["reflex_done"]
        for n, frame, flag in zip(rows, heard, flags, strict=True):
            case, ear = cases[n], opened[n]
            case.frames[k] = frame
            if trips[n]:
                columns["reflex_done"][n] = columns["reflex_count"][n]
                _tripped(case, k, columns, n)
            _step(case, k, bool(flag) and (ear is None or ear.voice), ear is None or ear.near)
            columns["reflex"][n] = TRIPS_AT if case.turns.armed else 0
        if ears:
            ears.hear(rows, RATE, heard, flags[:, None])
        out = np.array([n for n in rows if _plays(cases[n], k)], np.intp)
        if len(out):
            reflexes.played(out, np.stack([cases[n].line[k] for n in out]))
    return cases


def _ears(calls: int) -> Any:
    """The neural stage, where this build has one; each call is as if it were alone."""
    if importlib.util.find_spec("bridge.ears") is None:
        return None
    ears = importlib.import_module("bridge.ears").Ears(few=calls)
    ears.load()
    return ears


def _case(clip: Clip, agent: Agent) -> Case:
    total_ms = CLIP_AT_MS + clip.length_ms + AFTER_MS
    count = int(total_ms // FRAME_MS) + 1
    samples = clip.bed_pcm(count * FRAME_MS / 1000).astype(np.int32)[: count * FRAME]
    if not clip.echo_ms:
        at = CLIP_AT_MS * RATE // 1000
        samples[at : at + len(clip.pcm)] += clip.pcm
    frames = np.clip(samples, -32768, 32767).astype(np.int16).reshape(count, FRAME)
    speaks = clip.kind in ("interruption", "false")
    case = Case(clip, frames, Turns(agent.turns, language=agent.language), agent, speaks)
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


def _plays(case: Case, k: int) -> bool:
    """Send the agent's next frame, if there is one."""
    if not case.playing or case.paused:
        return False
    voice = agent_voice()
    case.line[k] = voice[case.played % len(voice)]
    case.played += 1
    return True


def _tripped(case: Case, k: int, columns: dict[str, Any], n: int) -> None:
    """The reflex has paused the agent, as `Conversation` deals with it."""
    at_ms = k * FRAME_MS
    _carry_out(case, at_ms, case.turns.tripped(at_ms))
    if case.turns.state is not State.PAUSED:
        return
    heard = case.frames[max(k + 1 - ONSET, 0) : k + 1].reshape(-1)
    played = case.line[max(k - ONSET - DELAYS, 0) : k].reshape(-1)
    found, louder_db = likeness(heard, played)
    if found >= OURS and louder_db <= LOUDEST_DB:
        columns["reflex_echo_db"][n] = max(float(columns["reflex_echo_db"][n]), louder_db)
        _carry_out(case, at_ms, case.turns.echo(at_ms))


def _step(case: Case, k: int, flag: bool, near: bool = True) -> None:
    at_ms = k * FRAME_MS
    if case.speaks and at_ms == AGENT_AT_MS:
        case.playing = True
        case.turns.agent_started()
    _listen(case, at_ms)
    _carry_out(case, at_ms, case.turns.frame(at_ms, flag, near))


def _listen(case: Case, at_ms: int) -> None:
    """Words that are known by now, and the next glimpse."""
    own = case.listening
    if own.ready and own.ready[0] <= at_ms:
        _, until_ms, audio, look = own.ready
        own.ready = None
        if _matters(case, until_ms):
            _words(case, at_ms, until_ms, words(read_as(audio, RATE, look)), is_hum(audio, RATE))
        if own.wanted:
            own.wanted = False
            _look(case, at_ms, own.looks[1])
    if own.left and not own.ready and at_ms >= own.due_ms:
        own.left -= 1
        _look(case, at_ms)


def _look(case: Case, until_ms: int, look: int = 0) -> None:
    own = case.listening
    start = max(own.start_ms - PRE_ROLL_MS, 0)
    audio = case.frames.reshape(-1)[start * RATE // 1000 : until_ms * RATE // 1000]
    own.ready = (until_ms + WORDS_MS, until_ms, audio, look)
    own.due_ms = until_ms + EVERY_MS


def _matters(case: Case, until_ms: int) -> bool:
    """Whether words up to there can change anything: of a turn, only those that hold all of it.

    What can't isn't transcribed, which is most of a first run's time.
    """
    if case.turns.state in (State.SPEAKING, State.PAUSED):
        return True
    return case.turns.caller_speaks and until_ms >= case.turns.endpoint.end_ms


def _carry_out(case: Case, at_ms: int, actions: Sequence[Any]) -> None:
    for action in actions:
        _act(case, at_ms, action)


def _act(case: Case, at_ms: int, action: Any) -> None:
    case.log.append((at_ms + FRAME_MS, action))  # decided when the frame is there
    own = case.listening
    match type(action).__name__:
        case "BargeIn":
            case.playing = case.paused = False
        case "AgentPaused":
            case.paused = True
        case "AgentResumed":
            case.paused = False
        case "SpeechStarted":
            own.start_ms, own.left, own.wanted = action.at_ms, 1000, False
            own.due_ms = action.at_ms + FIRST_MS
        case "TurnPausing":
            own.start_ms, own.left = action.start_ms, AFTER_PAUSE
            before, looks = own.looks
            own.looks = (action.end_ms, looks + 1 if before == action.end_ms else 0)
            if own.ready:
                own.wanted = True
            else:
                _look(case, at_ms + FRAME_MS, own.looks[1])
        case "TurnCommitted":
            own.left, own.wanted = 0, False


def _words(case: Case, at_ms: int, until_ms: int, text: str, hum: bool) -> None:
    case.log.append((at_ms, text))
    understood = _brain(case.agent.file).understands(text, None) if text else None
    silence_ms = end_silence_ms(case.agent.turns, text, "", understood)
    turns = case.turns
    told = turns.words(text, until_ms, silence_ms, understood=understood, hum=hum)
    _carry_out(case, at_ms - FRAME_MS, told)


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
        self._known = self._read()
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
        """Beside what other processes have found meanwhile."""
        if not self._new:
            return
        known = self._read() | self._known
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
            json.dump(known, file)
        Path(file.name).replace(self._path)

    def _read(self) -> dict[str, str]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def _transcribe(self, pcm: Pcm) -> str:
        from bridge.engines.rates import resample
        from bridge.engines.stt_moonshine import Moonshine, _load

        if self._model is None:
            self._model = Moonshine(_load(), None)  # type: ignore[arg-type]
        return self._model._work(resample(pcm, RATE, Moonshine.rate))


@functools.cache
def _recogniser() -> _Words:
    form = hashlib.sha256(Path(stt_moonshine.__file__).read_bytes()).hexdigest()[:12]
    for old in folder().parent.glob("turns-words*.json"):
        if form not in old.name:
            old.unlink()
    return _Words(folder().parent / f"turns-words-{form}.json")


def words(pcm: Pcm) -> str:
    """What 8 kHz samples say, by the engine's recogniser."""
    return _recogniser().of(pcm)


def save_words() -> None:
    """Keep what was transcribed for the next run."""
    _recogniser().save()
