"""The plane's reflex: the agent falls silent the moment the caller makes himself heard.

Theory of operation. A worker arms a call's reflex while the agent speaks (`reflex`: so many frames
of speech trip it). Every frame of the caller's counts: up with speech, down without, between 0 and
`_MOST`; when the count comes up to `reflex` the call is *tripped*: `reflex_count` goes up by one,
and the next packet fades the agent out. The worker sees that, sets its own `play_pause`, and writes
the number of the trip into `reflex_done`: from then on the pause is the worker's. A trip that
nobody deals with lets go by itself after `HELD_MS`, so that no frozen worker silences an agent.

Own echo. What the line sends back of the agent's voice must not trip anything. How loud that is at
most is learnt from every call: whatever was played in [-640, -320) ms came back, if it did, within
the last 640 ms, so the loudest frame heard in these, over the loudest played in those, bounds the
coupling from above. (Speech of the caller only makes the bound looser.) Until 640 ms have been
played a strong echo is supposed. A frame that isn't louder than that echo of what was played in
the last 320 ms, and `MARGIN_DB`, is flagged and counts as no speech. `reflex_echo_db` is the
coupling that a worker has measured, where it found that an echo did trip us. What is played counts
at once; that it is long ago, and what it teaches, is found out by `learn`, every few frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns
from bridge.audio.speech import SILENT_DB, level_db

WINDOW = 16
"""Frames within which an echo comes back: 320 ms."""
FIRST_DB = -9.0
"""Supposed coupling until something is known."""
MARGIN_DB = 6.0
HELD_MS = 1000
_HELD = HELD_MS // 20
_MOST = 5
_LOUD_DB = -42.0
"""What is played more softly than this teaches nothing."""

_PLACES = np.arange(2 * WINDOW)
_RECENTLY = (_PLACES[:, None] - _PLACES) % (2 * WINDOW) < WINDOW
"""Which places of a history hold its last `WINDOW` frames, by the newest one's."""

SPEC = {
    "reflex": Column("u1"),
    "reflex_done": Column("u4"),
    "reflex_echo_db": Column("f4", -100),
    "reflex_count": Column("u4"),
    "reflex_score": Column("u1"),
    "reflex_held": Column("u2"),
    "echo_bound_db": Column("f4", FIRST_DB),
    "echo_out_db": Column("f4", SILENT_DB),
    "echo_recent_db": Column("f4", SILENT_DB),
    "echo_at": Column("i8"),
    "echo_played_db": Column("f4", SILENT_DB, (2 * WINDOW,)),
    "echo_heard_db": Column("f4", SILENT_DB, (2 * WINDOW,)),
}


class ReflexBank:
    """Reflexes of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep all state in `columns` (see `SPEC`)."""
        self._c = columns

    def holds(self, calls: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of `calls` (k,) are tripped, and silent for that; asked for once a packet."""
        c = self._c
        holds: NDArray[np.bool_] = c["reflex_count"][calls] != c["reflex_done"][calls]
        if holds.any():
            rows = calls[holds]
            held = c["reflex_held"][rows]
            c["reflex_held"][rows] = np.minimum(held + 1, _HELD)
            holds[holds] = held < _HELD
        return holds

    def played(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> None:
        """Agent audio (k, n) leaves for `calls` (k,)."""
        level = level_db(pcm[:, ::4])  # a level needs no more of it
        self._c["echo_out_db"][calls] = np.maximum(self._c["echo_out_db"][calls], level)

    def heard(
        self, calls: NDArray[np.intp], level: NDArray[np.float32], speech: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """A frame of each of `calls` (k,) has come, so loud (dB of full scale), with speech or not.

        Returns:
            Which of them may be no more than our own echo (k,).
        """
        c = self._c
        # What left since the frame before, and what has left lately.
        out = c["echo_out_db"][calls]
        c["echo_out_db"][calls] = SILENT_DB
        recent = np.maximum(c["echo_recent_db"][calls], out)
        c["echo_recent_db"][calls] = recent
        at = c["echo_at"][calls]
        c["echo_at"][calls] = at + 1
        at %= 2 * WINDOW
        c["echo_played_db"][calls, at], c["echo_heard_db"][calls, at] = out, level
        coupling = np.maximum(c["echo_bound_db"][calls], c["reflex_echo_db"][calls])
        echo: NDArray[np.bool_] = speech & (level < recent + coupling + np.float32(MARGIN_DB))
        before, armed = c["reflex_score"][calls], c["reflex"][calls]
        counts = speech & ~echo
        score = np.where(counts, np.minimum(before + 1, _MOST), np.maximum(before, 1) - 1)
        c["reflex_score"][calls] = score
        trips = (before < armed) & (score >= armed)
        if trips.any():
            rows = calls[trips]
            rows = rows[c["reflex_count"][rows] == c["reflex_done"][rows]]
            c["reflex_held"][rows] = 0
            c["reflex_count"][rows] += 1
        return echo

    def learn(self) -> None:
        """Forget what was played too long ago to come back; see how loud an echo can be."""
        c = self._c
        rows = np.flatnonzero(c["echo_recent_db"] > SILENT_DB)
        if not len(rows):
            return
        played, recently = (
            c["echo_played_db"][rows],
            _RECENTLY[(c["echo_at"][rows] - 1) % _PLACES.size],
        )
        c["echo_recent_db"][rows] = np.where(recently, played, SILENT_DB).max(axis=1)
        older = np.where(recently, SILENT_DB, played).max(axis=1)
        bound = np.where(older > _LOUD_DB, c["echo_heard_db"][rows].max(axis=1) - older, np.inf)
        c["echo_bound_db"][rows] = np.minimum(bound, c["echo_bound_db"][rows])
