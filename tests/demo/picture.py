"""timeline.png: the whole call at a glance.

One row holds a few turns: the caller's sound above the line, the agent's below, with what each
said, the time from one to the other, and marks where the caller interrupted, pressed keys or was
transferred, or said something for which the agent held its breath and went on, and where the worker
was killed. All rows have the same scale; a row ends where a turn of the caller's begins. Below
them, a bar a turn shows where the time went between the caller's last sample and the answer's first
packet.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.demo import bars
from tests.demo.judge import Judged, Verdict
from tests.demo.latency import Stages
from tests.lab.capture import RATE, Digit, Track

CALLER, AGENT, DELAY, CUT, HELD, KEYS, HUMAN, RINGING = (
    *("#2166ac", "#1a7f4b", "#555555", "#c0392b", "#b8860b", "#7b3f9e", "#d98200", "#aaaaaa"),
)
DEATH = "#111111"
ROW_S = 22.0  # at most so much in a row, unless one turn is longer
WIDTH_IN, ROW_IN, HEAD_IN, FOOT_IN = 16.0, 2.9, 1.1, 0.55
SIDE_IN = 0.85
LANE = 1.0  # height of each lane in the axes' units; text stands beyond
REACH = 2.35
CHARACTERS_PER_IN = 14.5  # of the font below
FONT = 8.5
ENVELOPE = RATE // 200  # samples a pixel or so: 5 ms


@dataclass(frozen=True)
class Scene:
    """What is drawn. Times of `verdict` are epoch seconds, the picture's begin with `zero`."""

    title: str
    subtitle: str
    verdict: Verdict
    sent: Track
    received: Track
    digits: Sequence[Digit]
    zero: float
    stages: Mapping[int, Stages] = field(default_factory=dict)
    """By turn: where the time went, of those of which it is known."""

    @property
    def length(self) -> float:
        """Seconds from `zero` to the end of both tracks."""
        ends = [track.start + len(track.pcm) / RATE for track in (self.sent, self.received)]
        return max(ends) - self.zero


def rows(starts: Sequence[float], length: float) -> list[tuple[float, float]]:
    """Cut a call of `length` seconds into rows that end before a turn begins (at `starts`)."""
    cuts = [0.0]
    points = [*(s - 0.4 for s in starts if s > 1.0), length]
    for here, following in zip(points, [*points[1:], length], strict=True):
        if following - cuts[-1] > ROW_S and here > cuts[-1]:
            cuts.append(here)
    cuts = [c for c in cuts if c < length]
    return list(zip(cuts, [*cuts[1:], length], strict=True))


def draw(scene: Scene, path: Path) -> None:
    """Draw the call and save it as PNG."""
    starts = [t.caller[0] - scene.zero for t in scene.verdict.turns if t.caller]
    parts = rows(starts, scene.length)
    scale = max(end - begin for begin, end in parts)
    below_rows = bars.height_in(len(scene.stages))
    height = HEAD_IN + ROW_IN * len(parts) + below_rows + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    for n, (begin, end) in enumerate(parts):
        bottom = height - HEAD_IN - ROW_IN * (n + 1)
        inside = WIDTH_IN - 1.5 * SIDE_IN
        axes = figure.add_axes(
            (
                SIDE_IN / WIDTH_IN,
                (bottom + 0.3) / height,
                inside / WIDTH_IN * (end - begin) / scale,
                (ROW_IN - 0.35) / height,
            )
        )
        _Row(scene, axes, begin, end, inside / scale).draw()
    if scene.stages:
        bars.draw(figure, scene.verdict, scene.stages, foot=FOOT_IN, side=SIDE_IN)
    top = 1 - 0.33 / height
    figure.text(SIDE_IN / WIDTH_IN, top, scene.title, fontsize=15, weight="bold", va="center")
    below = 1 - 0.68 / height
    figure.text(SIDE_IN / WIDTH_IN, below, scene.subtitle, fontsize=9.5, va="center", color=DELAY)
    _legend(figure, height)
    figure.savefig(path, dpi=110)


def _legend(figure: Figure, height: float) -> None:
    x, y = SIDE_IN / WIDTH_IN, 0.22 / height
    for color, text in (
        (CALLER, "caller"),
        (AGENT, "agent, as the phone received it"),
        (DELAY, "↔ last caller to first agent sample"),
        (CUT, "caller interrupts, until silence"),
        (HELD, "agent pauses, and goes on"),
        (KEYS, "keys pressed"),
        (DEATH, "worker killed"),
        (HUMAN, "a human answers"),
    ):
        figure.text(x, y, "■ ", color=color, fontsize=11, va="center")
        figure.text(x + 0.2 / WIDTH_IN, y, text, fontsize=9, va="center", color="#333333")
        x += (0.45 + len(text) / 15.5) / WIDTH_IN


@dataclass(frozen=True)
class _Row:
    scene: Scene
    axes: Axes
    begin: float
    end: float
    in_per_s: float

    def draw(self) -> None:
        axes = self.axes
        axes.set_xlim(self.begin, self.end)
        axes.set_ylim(-REACH, REACH)
        axes.set_yticks([])
        first = np.ceil(self.begin)
        ticks = np.arange(first, self.end + 1e-9, 1.0)
        axes.set_xticks(ticks)
        axes.set_xticklabels([_clock(t) if round(t) % 5 == 0 else "" for t in ticks], fontsize=8)
        axes.tick_params(axis="x", length=3, color="#999999", labelcolor="#666666")
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#bbbbbb")
        axes.axhline(0, color="#dddddd", lw=0.8, zorder=0)
        for lane, name, color in ((1, "caller", CALLER), (-1, "agent", AGENT)):
            axes.annotate(
                name,
                (0, (0.5 * lane * LANE + REACH) / (2 * REACH)),
                xycoords="axes fraction",
                xytext=(-8, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=color,
                fontsize=10,
                weight="bold",
            )
        self._wave(self.scene.sent, 1, CALLER)
        self._wave(self.scene.received, -1, AGENT)
        for n, turn in enumerate(self.scene.verdict.turns):
            self._turn(n, turn)
        self._greeting()
        self._tones()
        self._keys()
        self._death()

    def _has(self, when: float | None) -> bool:
        return when is not None and self.begin <= when - self.scene.zero < self.end

    def _x(self, when: float) -> float:
        return when - self.scene.zero

    def _wave(
        self, track: Track, lane: int, color: str, span: tuple[float, float] | None = None
    ) -> None:
        begin, end = span or (self.begin, self.end)
        first = track.index(self.scene.zero + begin)
        pcm = track.pcm[first : track.index(self.scene.zero + end)]
        pcm = pcm[: len(pcm) // ENVELOPE * ENVELOPE].reshape(-1, ENVELOPE)
        if not len(pcm):
            return
        # The square root lifts the quiet sounds, which the eye would lose.
        loud = np.sqrt(np.abs(pcm.astype(np.float64)).max(axis=1) / 32768) * LANE * 0.7
        x = track.start - self.scene.zero + (first + (np.arange(len(pcm)) + 0.5) * ENVELOPE) / RATE
        middle = 0.5 * lane * LANE
        self.axes.fill_between(x, middle - loud, middle + loud, color=color, lw=0, alpha=0.9)

    def _turn(self, n: int, turn: Judged) -> None:
        if turn.caller is None or not self._has(turn.caller[0]):
            return
        begin, end = (self._x(t) for t in turn.caller)
        name = f"{n + 1} · {turn.turn.label or turn.turn.text[:24]}  "
        wrong = ", ".join(turn.missing) or turn.turn.expect_extension or "an answer"
        self.axes.axvline(begin, color="#cccccc", lw=0.8, ls=(0, (2, 2)), zorder=0)
        self.axes.text(
            *(begin, REACH, name + ("✓" if turn.right else f"✗ lacks: {wrong}")),
            ha="left",
            va="top",
            fontsize=9.5,
            weight="bold",
            color="#222222" if turn.right else CUT,
        )
        room = self._room(n)
        if turn.turn.say:
            said = _wrap(f"“{turn.turn.say}”", room * self.in_per_s, lines=2)
            self.axes.text(
                begin, REACH - 0.36, said, ha="left", va="top", fontsize=FONT, color=CALLER
            )
        if turn.agent:
            self._answer(turn, end, self._x(turn.agent[0]), begin + room)
        if turn.barge_in_stop_ms is not None:
            self._barge_in(begin, turn.barge_in_stop_ms)
        if turn.turn.goes_on:
            self._goes_on(turn, begin, end, begin + room)

    def _room(self, n: int) -> float:
        """Seconds from a turn's begin to what comes next in this row."""
        turn = self.scene.verdict.turns[n]
        assert turn.caller
        later = [t.caller[0] for t in self.scene.verdict.turns[n + 1 :] if t.caller]
        following = self._x(later[0]) if later else self.end
        return min(following, self.end) - self._x(turn.caller[0]) - 0.1

    def _answer(self, turn: Judged, end: float, start: float, until: float) -> None:
        tones = [self._x(turn.transferred)] if turn.transferred is not None else []
        room = min([until, *tones]) - start
        text = _wrap(f"“{turn.heard}”", max(room, 1.2) * self.in_per_s, lines=4)
        self.axes.text(start, -LANE - 0.12, text, ha="left", va="top", fontsize=FONT, color=AGENT)
        if turn.voice_to_voice_ms is None:
            return
        self.axes.annotate(
            *("", (end, 0), (start, 0)), arrowprops={"arrowstyle": "<->", "color": DELAY, "lw": 1.2}
        )
        # In the caller's lane, which is silent now.
        self.axes.text(
            *(max(end, start - 0.5) + 0.12, 0.5 * LANE, f"{turn.voice_to_voice_ms:.0f} ms"),
            ha="left",
            va="center",
            fontsize=10,
            weight="bold",
            color=DELAY,
        )

    def _barge_in(self, begin: float, stop_ms: float) -> None:
        stop = begin + stop_ms / 1000
        self.axes.axvspan(
            begin, stop, 0.5 - 0.5 * LANE / REACH, 0.5, color=CUT, alpha=0.25, lw=0, zorder=0
        )
        self.axes.plot([begin, begin], [-LANE, LANE], color=CUT, lw=1.4)
        self.axes.text(
            *(begin, -LANE - 0.12, f"interrupted: the agent\nis silent after {stop_ms:.0f} ms"),
            ha="left",
            va="top",
            fontsize=9,
            weight="bold",
            color=CUT,
        )

    def _goes_on(self, turn: Judged, begin: float, end: float, until: float) -> None:
        if turn.held_ms is None:
            said = "the agent goes on"
        else:
            said = f"no interruption: goes on after {turn.held_ms:.0f} ms"
            self.axes.axvspan(
                *(begin, begin + turn.held_ms / 1000, 0.5 - 0.5 * LANE / REACH, 0.5),
                color=HELD,
                alpha=0.25,
                lw=0,
                zorder=0,
            )
        self.axes.plot([begin, begin], [-LANE, LANE], color=HELD, lw=1.4)
        bold = {"ha": "left", "va": "top", "fontsize": 9, "weight": "bold", "color": HELD}
        self.axes.text(begin, -LANE - 0.12, said, **bold)
        text = _wrap(f"“{turn.heard}”", max(until - end, 1.2) * self.in_per_s, lines=3)
        self.axes.text(end, -LANE - 0.42, text, ha="left", va="top", fontsize=FONT, color=AGENT)

    def _greeting(self) -> None:
        speech = self.scene.verdict.received_speech
        if not speech or not self.scene.verdict.greeting:
            return
        when = self.scene.received.time(speech[0].start)
        if not self._has(when):
            return
        starts = [t.caller[0] for t in self.scene.verdict.turns if t.caller]
        room = min(self._x(starts[0]) if starts else self.end, self.end) - self._x(when)
        text = _wrap(f"“{self.scene.verdict.greeting}”", room * self.in_per_s, lines=4)
        self.axes.text(
            *(self._x(when), -LANE - 0.12, text), ha="left", va="top", fontsize=FONT, color=AGENT
        )
        self.axes.text(
            *(self._x(when), REACH, "greeting"),
            ha="left",
            va="top",
            fontsize=9.5,
            weight="bold",
            color="#222222",
        )

    def _tones(self) -> None:
        for tone in self.scene.verdict.ringing:
            begin = self._x(self.scene.received.time(tone.start))
            end = self._x(self.scene.received.time(tone.end - 1))
            if self.begin <= begin < self.end:
                self._wave(self.scene.received, -1, "white", (begin - 0.04, end + 0.04))
                self._wave(self.scene.received, -1, RINGING, (begin - 0.04, end + 0.04))
        for tone in self.scene.verdict.tones:
            begin = self._x(self.scene.received.time(tone.start))
            end = self._x(self.scene.received.time(tone.end - 1))
            if self.begin <= begin < self.end:
                self._wave(self.scene.received, -1, "white", (begin, end))
                self._wave(self.scene.received, -1, HUMAN, (begin, end))
                self.axes.text(
                    *(begin, -LANE - 0.12, "transferred: a human answers"),
                    ha="left",
                    va="top",
                    fontsize=9,
                    weight="bold",
                    color=HUMAN,
                )

    def _keys(self) -> None:
        for digit in self.scene.digits:
            if self._has(digit.start):
                self.axes.text(
                    *((self._x(digit.start) + self._x(digit.end)) / 2, 0.5 * LANE, digit.digit),
                    ha="center",
                    va="center",
                    fontsize=10,
                    weight="bold",
                    color="white",
                    bbox={"boxstyle": "round,pad=0.22", "fc": KEYS, "ec": "none"},
                )

    def _death(self) -> None:
        """Where the worker was killed, and how long until the agent answered something new."""
        seen = self.scene.verdict.takeover
        if seen is None or not self._has(seen.at):
            return
        begin = self._x(seen.at)
        for low, high in ((-LANE, LANE), (-REACH, -REACH + 0.4)):  # the answer's words are between
            self.axes.plot([begin, begin], [low, high], color=DEATH, lw=2.2)
        said = f"kill -9: the worker dies. Longest packet gap {seen.packet_gap_ms:.0f} ms"
        if seen.answered is not None and seen.answer_gap_ms is not None:
            until = min(self._x(seen.answered), self.end)
            arrow = {"arrowstyle": "->", "color": DEATH, "lw": 1.2}
            self.axes.annotate(*("", (until, LANE), (begin, LANE)), arrowprops=arrow)
            said += f", next answer after {seen.answer_gap_ms:.0f} ms"
        late = begin - self.begin > 0.6 * (self.end - self.begin)
        self.axes.text(
            *(begin + (-0.1 if late else 0.1), -REACH + 0.08, said),
            ha="right" if late else "left",
            va="bottom",
            fontsize=9,
            weight="bold",
            color=DEATH,
        )


def _wrap(text: str, inches: float, lines: int) -> str:
    width = max(int(inches * CHARACTERS_PER_IN), 12)
    return "\n".join(
        textwrap.wrap(text, width, max_lines=lines, placeholder=" …", break_long_words=False)
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
