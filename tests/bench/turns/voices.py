"""Voices for the corpus: flite, espeak-ng and piper, and prompts that people have read.

All give 8 kHz samples without silence around them, at the level asked for.
"""

from __future__ import annotations

import functools
import io
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.demo.voice import spoken
from tests.lab.capture import RATE, Pcm
from tests.lab.root import REPOSITORY, LabError, program
from tests.lab.speech import level, regions, resample

ROOT = REPOSITORY / ".lab-bench"
MARGIN = RATE // 50  # kept around the speech: what is softer than the judge's threshold


def say(voice: str, text: str) -> Pcm:
    """A text in a voice (`engine:name`) as the engine gives it, 8 kHz."""
    engine, name = voice.split(":", 1)
    return _ENGINES[engine](name, text)


def prompt(folder: str, name: str) -> Pcm:
    """A prompt that somebody has read, 8 kHz."""
    return _read(_sounds() / folder / f"{name}.wav")


def music(name: str) -> Pcm:
    """A piece of music on hold, whole."""
    return _read(_share("asterisk/moh") / f"{name}.wav")


def trimmed(pcm: Pcm, dbfs: float) -> Pcm:
    """Speech without the silence around it, at a level."""
    speech = regions(pcm, bridge_ms=5000)
    if not speech:
        raise LabError("a voice of the corpus said nothing")
    own = pcm[max(speech[0].start - MARGIN, 0) : speech[-1].end + MARGIN]
    return at_level(own, dbfs)


def at_level(pcm: Pcm, dbfs: float) -> Pcm:
    """The same at another level (RMS of the whole), never beyond full scale."""
    gain = 10 ** ((dbfs - level(pcm)) / 20)
    peak = float(np.abs(pcm.astype(np.int32)).max()) or 1.0
    gain = min(gain, 32000 / peak)
    return np.round(pcm * gain).astype(np.int16)


def _share(path: str) -> Path:
    found = ROOT / "sys" / "usr" / "share" / path
    if not found.exists():
        raise LabError(f"{path} is not in the private root: run 'tests/lab/setup.sh bench'")
    return found


def _sounds() -> Path:
    return _share("asterisk/sounds")


def _flite(name: str, text: str) -> Pcm:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        _run([program("flite"), "-voice", name, *spoken(text), "-o", out])
        return _read(out)


def _espeak(name: str, text: str) -> Pcm:
    data = next((ROOT / "sys/usr/lib").glob("*/espeak-ng-data"), None)
    if data is None:
        raise LabError("espeak-ng is not set up: run 'tests/lab/setup.sh bench'")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        _run([ROOT / "bin" / "espeak-ng", f"--path={data.parent}", "-v", name, "-w", out, text])
        return _read(out)


@functools.cache
def _piper_voice(name: str) -> Any:
    from bridge.engines.piper_process import load
    from bridge.engines.tts_piper import voice

    return load(voice(name))


def _piper(name: str, text: str) -> Pcm:
    import onnxruntime

    onnxruntime.set_seed(1)  # of the model's own noise, as far as it heeds it
    return np.concatenate(list(_pieces(name, text)))


def _pieces(name: str, text: str) -> Iterator[Pcm]:
    for chunk in _piper_voice(name).synthesize(text):
        pcm = np.round(chunk.audio_float_array * 0.7 * 32767).astype(np.int16)
        yield resample(pcm, chunk.sample_rate, RATE)


_ENGINES = {"flite": _flite, "espeak": _espeak, "piper": _piper}


def _run(command: list[object]) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise LabError(f"{Path(str(command[0])).name} failed: {done.stderr.strip()[:200]}")


def _read(path: Path) -> Pcm:
    with wave.open(io.BytesIO(path.read_bytes())) as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise LabError(f"{path.name}: not 16-bit mono")
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
        return resample(pcm, file.getframerate(), RATE)
