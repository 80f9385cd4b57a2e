"""Below the timeline: a bar a turn, from the caller's last voice to the answer's first packet.

A bar is split by what the caller waited for, which sums up. Most of the work is done while his
silence is waited out, and adds nothing: it is drawn as a thin strip in the bar, where it was done.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.demo.judge import Verdict
from tests.demo.latency import STAGES, Stages

COLORS = dict(
    zip(STAGES, ("#9ecae1", "#dedede", "#6a51a3", "#e6550d", "#31a354", "#3182bd"), strict=True)
)
HEARD, GREY = "#111111", "#555555"
BAR_IN, HEAD_IN, FOOT_IN, LEFT_IN = 0.3, 0.75, 0.35, 2.6
LEAST_MS = 25
"""A part that is narrower than this has no room for its number."""


def height_in(turns: int) -> float:
    """Room for so many bars with their head and axis, inches."""
    return HEAD_IN + BAR_IN * turns + FOOT_IN if turns else 0.0


def draw(
    figure: Figure, verdict: Verdict, stages: Mapping[int, Stages], *, foot: float, side: float
) -> None:
    """Into the bottom of a figure, `foot` inches above its end and `side` inches from its edge."""
    width, height = figure.get_size_inches()
    shown = sorted(stages)
    axes = figure.add_axes(
        (
            LEFT_IN / width,
            (foot + FOOT_IN) / height,
            (width - LEFT_IN - 0.5 * side) / width,
            BAR_IN * len(shown) / height,
        )
    )
    for row, n in enumerate(shown):
        _bar(axes, row, stages[n], verdict.turns[n].voice_to_voice_ms)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)  # the totals stand behind the bars
    turns = [verdict.turns[n].turn for n in shown]
    names = [f"{n + 1} · {(t.label or t.text)[:24]}" for n, t in zip(shown, turns, strict=True)]
    axes.set_yticks(range(len(shown)))
    axes.set_yticklabels(names, fontsize=9)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8, colors="#666666")
    axes.tick_params(axis="y", length=0)
    for edge in ("right", "top", "left"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color("#bbbbbb")
    y = (foot + height_in(len(shown)) - 0.25) / height
    _head(figure, side / width, y, width)


def _bar(axes: Axes, row: int, stages: Stages, heard: float | None) -> None:
    at = 0.0
    for stage, color in COLORS.items():
        ms = stages.path.get(stage, 0.0)
        axes.barh(row, ms, left=at, height=0.7, color=color, lw=0)
        if ms >= LEAST_MS:
            axes.text(
                at + ms / 2,
                row - 0.08,
                f"{ms:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if stage in ("stt", "llm", "tts", "media_out") else HEARD,
            )
        at += ms
    for stage, (begin, end) in stages.work.items():
        axes.barh(row + 0.24, end - begin, left=begin, height=0.22, color=COLORS[stage], lw=0)
    if heard is not None:
        axes.plot([heard, heard], [row - 0.45, row + 0.45], color=HEARD, lw=1.6)
    total = f"{at:.0f} ms" if heard is None else f"{at:.0f} ms, heard after {heard:.0f}"
    right = max(at, heard or 0.0)
    axes.annotate(
        *(total, (right, row)),
        xytext=(6, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=8.5,
        color=GREY,
    )


def _head(figure: Figure, x: float, y: float, width: float) -> None:
    title = "Where the caller's waiting went, ms"
    figure.text(x, y, title, fontsize=11, weight="bold", va="center")
    x = 4.3 / width
    entries = [(COLORS[stage], "■", text) for stage, text in STAGES.items()]
    entries += [(GREY, "▂", "thin: done meanwhile"), (HEARD, "▏", "first heard by the caller")]
    for color, mark, text in entries:
        figure.text(x, y, mark, color=color, fontsize=11, va="center")
        figure.text(x + 0.2 / width, y, text, fontsize=9, va="center", color="#333333")
        x += (0.4 + len(text) / 15.5) / width
