"""What a line carries besides speech, synthesised from a seed: 8 kHz samples.

None of it is a recording. A cough is what phonetics says it is: an explosive noise burst of 30 to
60 ms, a weaker noisy phase, and often a voiced end; usually two or three in a row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tests.bench.turns.voices import at_level
from tests.lab.capture import RATE, Pcm

Floats = npt.NDArray[np.float64]
Make = Callable[[np.random.Generator], Floats]


def noise(kind: str, seed: int, dbfs: float) -> Pcm:
    """A sound of a kind of `KINDS`; its level is that of the whole sound."""
    random = np.random.default_rng([seed, *kind.encode()])
    return at_level(_pcm(KINDS[kind](random)), dbfs)


def bed(kind: str, seconds: float, seed: int, dbfs: float) -> Pcm:
    """What goes on behind a voice for a whole call: `pink`, `street` or `hum`."""
    random = np.random.default_rng([seed, *kind.encode()])
    return at_level(_pcm(_BEDS[kind](random, round(seconds * RATE))), dbfs)


def _pcm(x: Floats) -> Pcm:
    return np.round(x / max(float(np.abs(x).max()), 1e-9) * 20000).astype(np.int16)


def _band(random: np.random.Generator, n: int, low: float, high: float, tilt: float = 0) -> Floats:
    """Noise between two frequencies, falling by `tilt` dB an octave."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    f = np.fft.rfftfreq(n, 1 / RATE)
    gain = np.where((f >= low) & (f <= high), 10 ** (-tilt / 20 * np.log2(f / low + 1e-9)), 0.0)
    return np.fft.irfft(spectrum * gain, n)


def _fall(n: int, ms: float) -> Floats:
    return np.exp(-np.arange(n) / (ms * RATE / 1000))


def _silence(ms: float) -> Floats:
    return np.zeros(round(ms * RATE / 1000))


def _cough(random: np.random.Generator) -> Floats:
    parts: list[Floats] = []
    for _ in range(int(random.integers(1, 4))):
        burst = round(random.uniform(0.03, 0.06) * RATE)
        rest = round(random.uniform(0.08, 0.2) * RATE)
        explosive = _band(random, burst, 300, 3600, 1) * _fall(burst, 25) * 3
        hiss = _band(random, rest, 400, 3000, 3) * _fall(rest, 70)
        cough = np.concatenate([explosive / _peak(explosive), 0.5 * hiss / _peak(hiss)])
        if random.random() < 0.6:
            tail = _voiced(random, round(random.uniform(0.05, 0.14) * RATE), 0.35)
            cough = np.concatenate([cough, tail])
        parts += [cough * random.uniform(0.6, 1.0), _silence(random.uniform(60, 260))]
    return np.concatenate(parts[:-1])


def _throat(random: np.random.Generator) -> Floats:
    """Clearing one's throat: rough voice under noise."""
    n = round(random.uniform(0.25, 0.5) * RATE)
    rough = _voiced(random, n, 1.0) * (0.6 + 0.4 * np.sign(random.standard_normal(n)))
    sound = rough + 1.2 * _shape(_band(random, n, 300, 2500, 4))
    return sound * np.hanning(n) ** 0.5


def _sneeze(random: np.random.Generator) -> Floats:
    draw = _band(random, round(0.25 * RATE), 500, 3400) * np.linspace(0, 0.25, round(0.25 * RATE))
    n = round(random.uniform(0.2, 0.35) * RATE)
    return np.concatenate([draw / 3, _silence(40), _band(random, n, 600, 3600) * _fall(n, 90)])


def _breath(random: np.random.Generator) -> Floats:
    n = round(random.uniform(0.5, 1.2) * RATE)
    return _band(random, n, 300, 2600, 3) * np.hanning(n)


def _clicks(random: np.random.Generator) -> Floats:
    """A pen, a mouse, a switch."""
    x = np.zeros(round(random.uniform(0.1, 1.2) * RATE))
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(0, len(x) - 120))
        x[at : at + 120] += random.uniform(0.4, 1) * random.standard_normal(120) * _fall(120, 2)
    return x


def _keys(random: np.random.Generator) -> Floats:
    """Typing beside the telephone."""
    x = np.zeros(round(random.uniform(1.5, 3) * RATE))
    at = 0
    while at < len(x) - 400:
        stroke = _band(random, 400, 700, 3500) * _fall(400, 8)
        x[at : at + 400] += stroke / _peak(stroke) * random.uniform(0.3, 1)
        at += int(random.uniform(0.08, 0.35) * RATE)
    return x


def _bang(random: np.random.Generator) -> Floats:
    """A door, a cup on a table."""
    n = round(random.uniform(0.12, 0.4) * RATE)
    return _band(random, n, 80, 1800, 5) * _fall(n, random.uniform(20, 80))


def _ring(random: np.random.Generator) -> Floats:
    """A doorbell, another telephone: tones."""
    n = round(random.uniform(0.5, 1.5) * RATE)
    t = np.arange(n) / RATE
    f = random.uniform(400, 1200)
    tone = np.sin(2 * np.pi * f * t) + 0.5 * np.sin(2 * np.pi * 1.26 * f * t)
    return tone * (0.55 + 0.45 * np.sign(np.sin(2 * np.pi * 18 * t)))


def _street(random: np.random.Generator) -> Floats:
    return _street_bed(random, round(random.uniform(2, 4) * RATE))


def _pink(random: np.random.Generator) -> Floats:
    n = round(random.uniform(2, 4) * RATE)
    edge = RATE // 4
    swell = np.minimum(np.minimum(np.arange(n), np.arange(n)[::-1]) / edge, 1)
    return _pink_bed(random, n) * swell


def _street_bed(random: np.random.Generator, n: int) -> Floats:
    """Traffic: a rumble, cars that come and go, here and there a horn."""
    x = _shape(_band(random, n, 60, 2500, 4)) * 0.4
    for _ in range(max(1, n // (2 * RATE))):
        length = int(random.uniform(1, 2.5) * RATE)
        car = _shape(_band(random, length, 100, 3000, 3)) * np.hanning(length)
        at = int(random.integers(-length // 2, max(n - length // 2, 1)))
        piece = car[max(-at, 0) : max(-at, 0) + n - max(at, 0)]
        x[max(at, 0) : max(at, 0) + len(piece)] += piece * random.uniform(0.4, 1)
    if random.random() < 0.3 and n > RATE:
        length = int(random.uniform(0.2, 0.4) * RATE)
        at = int(random.integers(0, n - length))
        t = np.arange(length) / RATE
        x[at : at + length] += 0.6 * (np.sin(2 * np.pi * 420 * t) + np.sin(2 * np.pi * 525 * t))
    return x


def _pink_bed(random: np.random.Generator, n: int) -> Floats:
    return _band(random, n, 50, 3800, 3)


def _hum_bed(random: np.random.Generator, n: int) -> Floats:
    """A bad line: mains hum and hiss."""
    t = np.arange(n) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (2, 3, 4, 6, 8))
    return np.asarray(0.3 * hum + _shape(_band(random, n, 200, 3800)))


def _voiced(random: np.random.Generator, n: int, height: float) -> Floats:
    """A rough vowel-like buzz."""
    f = random.uniform(90, 220) * (1 + 0.15 * np.cumsum(random.standard_normal(n)) / (n**0.5 + 1))
    phase = np.cumsum(2 * np.pi * f / RATE)
    buzz = sum(np.sin(k * phase) / k for k in range(1, 9)) + 0.5 * random.standard_normal(n)
    return np.asarray(height * buzz / _peak(buzz) * np.hanning(n) ** 0.5)


def _shape(x: Floats) -> Floats:
    return np.asarray(x / max(float(np.std(x)), 1e-9))


def _peak(x: Floats) -> float:
    return max(float(np.abs(x).max()), 1e-9)


KINDS: dict[str, Make] = {
    "cough": _cough,
    "throat": _throat,
    "sneeze": _sneeze,
    "breath": _breath,
    "clicks": _clicks,
    "keys": _keys,
    "bang": _bang,
    "ring": _ring,
    "street": _street,
    "pink": _pink,
}
_BEDS = {"pink": _pink_bed, "street": _street_bed, "hum": _hum_bed}
