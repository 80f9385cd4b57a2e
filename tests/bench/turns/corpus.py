"""The corpus: what callers say and what they don't mean, with the truth to the sample beside it.

Built once, from seeds, into the user's cache (never into the repository), anew when this package's
sources change. Every clip is a WAV of 8 kHz; `index.json` tells what it is. What is louder than the
demo judge's threshold is speech (`tests.lab.speech`), so that one definition of onset and end holds
for the demo, the bench and the caller's capture. Noise is not in the files: a clip that has a `bed`
is heard over it for the whole call, 15 dB below the speech, as on a noisy line.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tests.bench.turns import noises
from tests.bench.turns.texts import HALVES, TEXTS, Half
from tests.bench.turns.voices import at_level, music, prompt, say, trimmed
from tests.lab.capture import RATE, Pcm
from tests.lab.speech import regions

Kind = Literal["interruption", "false", "question", "paused"]

SNR_DB = 15.0
LEVELS = (-17.0, -20.0, -23.0, -26.0)
"""dBFS of speech: what reaches a PBX over good and bad telephones."""
ECHO_DB = -15.0
ECHO_MS = (20, 40, 60, 80, 100, 130, 160, 190, 220, 250)
PAUSES_MS = (250, 350, 450, 520, 570, 600)
BEDS = ("pink", "street", "hum")
PER_NOISE = {"cough": 50, "throat": 15, "sneeze": 8, "breath": 10, "clicks": 12, "keys": 8}
PER_NOISE |= {"bang": 10, "ring": 7, "street": 12, "pink": 8}
QUIET = {"breath": -35.0, "keys": -33.0, "clicks": -30.0, "street": -33.0, "pink": -35.0}
BABBLE, MUSIC, ECHO = 12, 18, 20
LONGEST_INTERRUPTION = 4 * RATE


@dataclass(frozen=True)
class Clip:
    """One clip. Times are ms from its beginning."""

    id: str
    half: Half
    kind: Kind
    sort: str
    """`short`, `sentence`, `prompt`, `question`, `paused`, `number`, `backchannel`, `echo`,
    `babble`, `music` or a kind of noise."""
    voice: str
    text: str
    dbfs: float
    bed: str = ""
    """A kind of noise that goes on behind it, 15 dB below; empty: a clean line."""
    seed: int = 0
    echo_ms: int = 0
    """Of an echo: how late the agent's own audio comes back, 15 dB below. There is no file."""
    length_ms: float = 0.0
    speech: tuple[tuple[float, float], ...] = ()
    """Stretches of speech, cut at silences of 150 ms and more."""

    @property
    def onset_ms(self) -> float:
        """First sample of the voice."""
        return self.speech[0][0]

    @property
    def end_ms(self) -> float:
        """End of its last sample."""
        return self.speech[-1][1]

    @property
    def pcm(self) -> Pcm:
        """Its samples, without any bed."""
        return _load(folder() / f"{self.id}.wav")

    def bed_pcm(self, seconds: float) -> Pcm:
        """What goes on behind it, as long as asked for; silence on a clean line."""
        if not self.bed:
            return np.zeros(round(seconds * RATE), np.int16)
        return noises.bed(self.bed, seconds, self.seed, self.dbfs - SNR_DB)


def clips(half: Half | None = None, kind: Kind | None = None) -> list[Clip]:
    """The corpus, or some of it; built where it isn't there."""
    return [
        c for c in _index(folder()) if (half is None or c.half == half) and kind in (None, c.kind)
    ]


@functools.cache
def folder() -> Path:
    """Where it is; builds it."""
    sources = [Path(__file__).with_name(f"{n}.py") for n in ("corpus", "noises", "texts", "voices")]
    form = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ari-bridge"
    place = cache / f"turns-{form}"
    if not (place / "index.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        print("bench: building the corpus of turns (about two minutes) ...", flush=True)
        build = Path(tempfile.mkdtemp(prefix="turns-build-", dir=cache))
        try:
            _build(build, cache / "voices")
        except BaseException:
            shutil.rmtree(build)
            raise
        for old in cache.glob("turns-????????????"):
            shutil.rmtree(old)
        build.rename(place)
    return place


@functools.cache
def _index(place: Path) -> list[Clip]:
    rows = json.loads((place / "index.json").read_text())
    return [Clip(**{**row, "speech": tuple(map(tuple, row["speech"]))}) for row in rows]


# ---- building ------------------------------------------------------------------------------------


@dataclass
class _Builder:
    place: Path
    voices: Path
    """Cache of what the engines said."""
    half: Half

    def add(self, clip: Clip, pcm: Pcm, *, spoken: bool) -> Clip:
        """Write a clip down with its truth."""
        _save(self.place / f"{clip.id}.wav", pcm)
        speech = regions(pcm, bridge_ms=150) if spoken else []
        spans = tuple((r.start * 1000 / RATE, r.end * 1000 / RATE) for r in speech)
        return replace(clip, length_ms=len(pcm) * 1000 / RATE, speech=spans)

    def said(self, voice: str, text: str) -> Pcm:
        """From the cache, where it has been said before."""
        name = hashlib.sha256(f"2 {voice} {text}".encode()).hexdigest()[:24]
        path = self.voices / f"{name}.wav"
        if not path.exists():
            _save(path, say(voice, text))
        return _load(path)

    def clip(self, kind: Kind, sort: str, voice: str, text: str, bed: bool = False) -> Clip:
        """With an id, a level and a seed that follow from what it is."""
        label = f"{self.half}-{kind}-{sort}-{voice}-{text}-{bed}"
        number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:6])
        chosen = BEDS[number % len(BEDS)] if bed else ""
        level = LEVELS[number // 8 % len(LEVELS)]
        name = f"{self.half}-{kind}-{sort}-{number:012x}"
        return Clip(
            *(name, self.half, kind, sort, voice, text, level), bed=chosen, seed=number % 2**31
        )

    # What it is made of

    def everything(self) -> Iterator[Clip]:
        texts = TEXTS[self.half]
        for voice in texts.voices:
            for sort, several in (("short", texts.short), ("sentence", texts.sentences)):
                for text in several:
                    for bed in (False, True):
                        yield self.spoken("interruption", sort, voice, text, bed)
            for n, text in enumerate(texts.backchannels):
                yield self.spoken("false", "backchannel", voice, text, bool(n % 2))
            for text in texts.questions:
                yield self.spoken("question", "question", voice, text)
            for n, text in enumerate(texts.paused):
                for k in (0, 3):
                    yield self.paused(voice, text, PAUSES_MS[(n + k) % len(PAUSES_MS)])
        for person in texts.people:
            for name in texts.prompts:
                yield self.read(person, name, bed=len(name) % 2 == 0)
        yield from self.noises()

    def spoken(self, kind: Kind, sort: str, voice: str, text: str, bed: bool = False) -> Clip:
        clip = self.clip(kind, sort, voice, text, bed)
        return self.add(clip, trimmed(self.said(voice, text), clip.dbfs), spoken=True)

    def read(self, person: str, name: str, bed: bool) -> Clip:
        clip = self.clip("interruption", "prompt", person, name, bed)
        pcm = trimmed(prompt(person, name), clip.dbfs)[:LONGEST_INTERRUPTION]
        return self.add(clip, pcm, spoken=True)

    def paused(self, voice: str, text: str, pause_ms: int) -> Clip:
        sort = "number" if _names_a_number(text) else "paused"
        clip = self.clip("paused", sort, voice, f"{text} [{pause_ms}]")
        whole = trimmed(self.said(voice, text), clip.dbfs)
        parts = _at_longest_gap(whole)
        if parts is None:  # this voice makes no pause there: say both parts by themselves
            cut = [self.said(voice, part.strip()) for part in text.split(",", 1)]
            parts = [trimmed(part, clip.dbfs) for part in cut]
        return self.add(replace(clip, text=text), _joined(parts, pause_ms), spoken=True)

    def noises(self) -> Iterator[Clip]:
        for kind, count in PER_NOISE.items():
            for n in range(count):
                clip = self.clip("false", kind, "", str(n), bed=n % 4 == 3)
                clip = replace(clip, dbfs=QUIET.get(kind, clip.dbfs), text="")
                yield self.add(clip, noises.noise(kind, clip.seed, clip.dbfs), spoken=False)
        texts = TEXTS[self.half]
        for n in range(BABBLE):
            clip = replace(self.clip("false", "babble", "", str(n)), dbfs=-33.0, text="")
            yield self.add(clip, self.babble(clip.seed, clip.dbfs), spoken=False)
        pieces = {name: music(name) for name in texts.music}
        for n in range(MUSIC):
            clip = self.clip("false", "music", "", str(n))
            random = np.random.default_rng(clip.seed)
            whole = pieces[texts.music[n % len(pieces)]]
            at = int(random.integers(0, len(whole) - 4 * RATE))
            clip = replace(clip, dbfs=-30.0, text=texts.music[n % len(pieces)])
            yield self.add(clip, at_level(whole[at : at + 4 * RATE], clip.dbfs), spoken=False)
        for n in range(ECHO):
            clip = self.clip("false", "echo", "", str(n))
            yield replace(clip, text="", echo_ms=ECHO_MS[n % len(ECHO_MS)], length_ms=3000.0)

    def babble(self, seed: int, dbfs: float) -> Pcm:
        """Five people who talk in the background, none of them to the agent."""
        random = np.random.default_rng(seed)
        texts = TEXTS[self.half]
        sum_ = np.zeros(4 * RATE)
        for _ in range(5):
            voice = texts.voices[int(random.integers(len(texts.voices)))]
            lines = [texts.sentences[int(k)] for k in random.permutation(len(texts.sentences))[:4]]
            talk = np.concatenate([trimmed(self.said(voice, line), -20.0) for line in lines])
            talk = np.tile(talk, 2)[int(random.integers(len(talk))) :]
            n = min(len(talk), len(sum_))
            sum_[:n] += talk[:n]
        return at_level(np.clip(sum_ / 3, -32768, 32767).astype(np.int16), dbfs)


def _build(place: Path, voices: Path) -> None:
    voices.mkdir(exist_ok=True)
    builders = [_Builder(place, voices, half) for half in HALVES]
    _say_all(builders)
    found = [clip for builder in builders for clip in builder.everything()]
    if len({clip.id for clip in found}) != len(found):
        raise ValueError("two clips of the corpus have one name")
    (place / "index.json").write_text(json.dumps([asdict(clip) for clip in found], indent=1))


def _say_all(builders: Sequence[_Builder]) -> None:
    """Have the engines, which are programs of their own, speak on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for builder in builders:
            texts = TEXTS[builder.half]
            several = (texts.short, texts.sentences, texts.backchannels, texts.questions)
            lines = [line for some in several for line in some] + list(texts.paused)
            for voice in texts.voices:
                said = threads.map(functools.partial(builder.said, voice), lines)
                if voice.startswith("piper"):  # its model takes all cores itself
                    list(said)


def _names_a_number(text: str) -> bool:
    words = text.lower().replace(",", " ").replace(".", " ").split()
    return sum(word in ("zero", "one", "two", "four", "five", "three") for word in words) >= 3


def _at_longest_gap(pcm: Pcm) -> list[Pcm] | None:
    """Speech cut at its longest silence, if that is one (60 ms: longer than most closures)."""
    spans = regions(pcm, bridge_ms=20)
    gaps = [
        (b.start - a.end, a.end, b.start)
        for a, b in itertools.pairwise(spans)
        if min(a.end - spans[0].start, spans[-1].end - b.start) > RATE // 5
    ]
    if not gaps or max(gaps)[0] < 60 * RATE // 1000:
        return None
    _, end, start = max(gaps)
    return [pcm[:end], pcm[start:]]


def _joined(parts: Sequence[Pcm], pause_ms: int) -> Pcm:
    """Parts with so much silence between the last sample of one and the first of the next."""
    first, second = parts
    ends = regions(first, bridge_ms=5000)[-1].end
    begins = regions(second, bridge_ms=5000)[0].start
    return np.concatenate(
        [first[:ends], np.zeros(pause_ms * RATE // 1000, np.int16), second[begins:]]
    )


def _save(path: Path, pcm: Pcm) -> None:
    whole = path.with_suffix(f".{os.getpid()}-{np.random.randint(1 << 30)}")
    with wave.open(str(whole), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.astype("<i2").tobytes())
    whole.rename(path)


def _load(path: Path) -> Pcm:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
