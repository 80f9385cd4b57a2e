"""The finished call's page as a file, and whether it shows what timeline.png shows.

The page is made by the bridge, from what stands in Redis and in the recording; the picture by us,
from the packets at the caller's end. That both tell the same call is checked: the voices lie at the
same moments, and whatever is marked in the picture is on the page.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.recording.notes import Notes
from tests.demo.judge import Judged, Verdict
from tests.lab.capture import RATE, Digit, Track
from tests.lab.root import LabError

_READY_S, _LOOK_S, _ANSWER_S = 30.0, 0.1, 60.0
_DATA = re.compile(r'<script type="application/json" id="saved">(.*?)</script>', re.DOTALL)

NEAR_S = 1.5
"""So far apart both may say that something was: the bridge hears words when they are over."""
HEIR_S = 15.0
"""So long after a death it may be taken over."""
SHIFT_S = 0.4
"""So far apart the voices may lie: a network with jitter lies between the two ends."""
LIKE = 0.7
"""So much alike both waveforms have to be, as a correlation; a foreign call's is about 0."""

Contents = Mapping[str, Any]


def keep(address: str, token: str, call_id: str, recording: str, path: Path) -> None:
    """Leave the page of a call that is over in a file.

    Args:
        address: of the dashboard.
        token: its.
        call_id: whose page.
        recording: what the call's record says of its recording.
        path: the file.

    Raises:
        LabError: the dashboard gives none.
    """
    parts = json.loads(recording)["parts"] if recording else []
    until = time.monotonic() + _READY_S
    while not all(_ready(Path(part + ".json")) for part in parts) or not parts:
        if time.monotonic() > until or not parts:
            raise LabError("the call's recording has not come; see bridge.log")
        time.sleep(_LOOK_S)
    asked = urllib.request.Request(
        f"{address}/v1/calls/{urllib.request.quote(call_id, safe='')}/page.html",
        headers={"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=_ANSWER_S) as answer:
            path.write_bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise LabError(f"there is no page of the call: {error.read().decode()}") from error
    except OSError as error:
        raise LabError(f"there is no page of the call: {error}") from error


def _ready(notes: Path) -> bool:
    return notes.is_file() and Notes.read(notes).state == "ready"


def contents(path: Path) -> Contents:
    """What a kept page shows: the API's answers, by what stands behind `/v1/calls/ID/`."""
    found = _DATA.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise LabError(f"{path} is no call's page")
    told: Contents = json.loads(found[1])
    return told


def differences(
    page: Contents, verdict: Verdict, sent: Track, received: Track, pressed: Sequence[Digit]
) -> list[str]:
    """What the picture of `verdict` and its sounds shows and the page doesn't; in words."""
    return [
        *_voices(page, sent, received),
        *_marks(_Page(page), verdict),
        *_keys(_Page(page), pressed),
    ]


class _Page:
    """What is on it, at epoch seconds."""

    def __init__(self, page: Contents) -> None:
        self.zero = float(page["transcript.json"]["zero"])
        self.lines: list[dict[str, Any]] = page["transcript.json"]["lines"]
        self.result = page[""]["result"]
        self.went_on = [
            one["at_s"]["paused"] + one["clock_s"]
            for one in page[""]["latency"]
            if "resumed" in one.get("interruption_ms", {})
        ]

    def begin(self, line: Mapping[str, Any]) -> float:
        """Of a line."""
        return float(self.zero + line["begin_ms"] / 1000)

    def end(self, line: Mapping[str, Any]) -> float:
        """The same."""
        return float(self.zero + line["end_ms"] / 1000)

    def of(self, role: str, text: str = "") -> list[dict[str, Any]]:
        """Its lines of that role; those with just that text, if one is given."""
        return [one for one in self.lines if one["role"] == role and text in ("", one["text"])]


def _marks(page: _Page, verdict: Verdict) -> Iterator[str]:
    for number, turn in enumerate(verdict.turns, 1):
        if turn.caller is not None:
            yield from (f"turn {number}: {lack}" for lack in _turn(page, turn, *turn.caller))
    taken = [page.begin(line) for line in page.of("event", "taken over")]
    deaths = [verdict.takeover.at] if verdict.takeover else []
    if len(taken) != len(deaths) or any(
        not 0 <= b - a < HEIR_S for a, b in zip(deaths, taken, strict=False)
    ):
        yield f"{len(deaths)} deaths of a worker, {len(taken)} takeovers on the page"


def _turn(page: _Page, turn: Judged, begin: float, end: float) -> Iterator[str]:
    if turn.turn.say and not turn.turn.goes_on:
        heard = [(page.begin(line), page.end(line)) for line in page.of("caller")]
        if not any(first < end + NEAR_S and last > begin - NEAR_S for first, last in heard):
            yield "no words of the caller's are there then"
    if turn.barge_in_stop_ms is not None:
        cut = [page.end(line) for line in page.of("agent") if line["cut"]]
        if not any(abs(at - begin) < NEAR_S for at in cut):
            yield "the agent was interrupted; on the page it was not cut"
    if turn.held_ms is not None and not any(abs(at - begin) < NEAR_S for at in page.went_on):
        yield "the agent paused and went on; on the page it did not"
    if turn.transferred is not None and page.result != "transferred":
        yield f"the caller was transferred; on the page it ended as {page.result or 'nothing'}"


def _keys(page: _Page, pressed: Sequence[Digit]) -> Iterator[str]:
    there = [(line["text"], page.begin(line)) for line in page.of("dtmf")]
    for one in pressed:
        if one.digit != "#" and not any(  # which ends a number, and may be nobody's
            one.digit in text and abs(at - one.start) < NEAR_S for text, at in there
        ):
            yield f"key {one.digit} is not there"


def _voices(page: Contents, sent: Track, received: Track) -> Iterator[str]:
    waves = [(page[f"recording.json?part={n}"], page[f"peaks?part={n}"]) for n in _parts(page)]
    if not waves:
        yield "the page has no sound"
    for about, peaks in waves:
        for side, track in (("caller", sent), ("agent", received)):
            there = np.array(peaks[side], float)
            here = _envelope(track, about["started"], len(there), peaks["per_s"])
            like, shift = _best(there, here, round(SHIFT_S * peaks["per_s"]))
            if like < LIKE:
                at = shift / peaks["per_s"]
                yield f"another waveform of the {side}: {like:.2f} alike at most ({at:+.2f} s)"


def _parts(page: Contents) -> list[int]:
    return [n for n in range(page[""]["recording_parts"]) if f"peaks?part={n}" in page]


def _envelope(track: Track, begin: float, count: int, per_s: int) -> npt.NDArray[np.float64]:
    """The loudest sample of each piece from `begin` (epoch) on, as the page has it."""
    first = round((begin - track.start) * RATE)
    edges = np.arange(count) * RATE // per_s
    room = np.zeros(count * RATE // per_s + 1)
    low, high = max(first, 0), min(first + len(room), len(track.pcm))
    if low < high:
        room[low - first : high - first] = np.abs(track.pcm[low:high].astype(float))
    return np.maximum.reduceat(room, edges) / 128


def _best(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], reach: int
) -> tuple[float, int]:
    """How much alike both are where they fit best, and by how many pieces `one` is later."""
    found = (-1.0, 0)
    for shift in range(-reach, reach + 1):
        a = one[max(shift, 0) : len(one) + min(shift, 0)]
        b = other[max(-shift, 0) : len(other) + min(-shift, 0)]
        if len(a) > 1 and a.std() and b.std():
            found = max(found, (float(np.corrcoef(a, b)[0, 1]), shift))
    return found
