"""The caller's voice: flite's `rms`, a man who sounds nothing like the agent.

Chosen by measurement (decisions.md): of the voices that can be had without a key it is the one that
the offline speech-to-text understands best, and it always says a sentence in exactly the same way,
so that a call can be repeated. Clips are kept in the user's cache.
"""

import hashlib
import os
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.lab.capture import RATE, Pcm
from tests.lab.root import LabError, program
from tests.lab.speech import level, regions, resample

VOICE = "rms"
LEVEL_DBFS = -20.0  # of the speech itself: a usual level on a phone line
MARGIN = RATE * 8 // 100  # kept around the speech: soft beginnings and ends
# What flite would spell out, in its own phonemes: hummed, as people do who go on listening.
HUMS = {"Uh-huh.": "pau m hh m pau", "Mm-hmm.": "pau m hh m pau"}
FORM = "2"  # raise it when clips are made in another way


@dataclass(frozen=True)
class Clip:
    """Something to say: 8 kHz samples."""

    text: str
    pcm: Pcm

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / RATE


def cache_folder() -> Path:
    """Where clips are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ari-bridge" / "clips"


def clip(text: str, voice: str = VOICE) -> Clip:
    """A sentence in the caller's voice, or another of flite's; from the cache where it can be."""
    name = hashlib.sha256(f"{FORM} {voice} {text}".encode()).hexdigest()[:24]
    path = cache_folder() / f"{name}.wav"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            ready = Path(folder) / "ready.wav"
            _save(ready, _trim(_say(text, voice, Path(folder) / "said.wav")))
            ready.rename(path)  # whole or not at all
    with wave.open(str(path), "rb") as file:
        return Clip(text, np.frombuffer(file.readframes(file.getnframes()), "<i2"))


def _say(text: str, voice: str, path: Path) -> Pcm:
    command = [str(program("flite")), "-voice", voice, *spoken(text), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode or not path.exists():
        raise LabError(f"flite can't say {text!r}: {done.stderr.strip()[:200]}")
    with wave.open(str(path), "rb") as file:
        said = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return resample(said, file.getframerate(), RATE)


def spoken(text: str) -> list[str]:
    """flite's options to say a text."""
    return ["-p", HUMS[text]] if text in HUMS else ["-t", text]


def _trim(pcm: Pcm) -> Pcm:
    """Without the silence around it, and at the usual level."""
    speech = regions(pcm, bridge_ms=2000)
    if not speech:
        raise LabError("flite said nothing")
    own = pcm[max(speech[0].start - MARGIN, 0) : speech[-1].end + MARGIN]
    gain = 10 ** ((LEVEL_DBFS - level(own)) / 20)
    return np.clip(np.round(own * gain), -32768, 32767).astype(np.int16)


def _save(path: Path, pcm: Pcm) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.astype("<i2").tobytes())
