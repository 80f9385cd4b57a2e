"""The pure layers' calls on two cores: most of their time is the recogniser's, on a first run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from bridge.agent import Agent
from tests.bench.turns import pure
from tests.bench.turns.corpus import Clip
from tests.bench.turns.figures import Verdict, judge

CORES = 2


def judged(clips: Sequence[Clip], agent: Agent | None = None) -> list[Verdict]:
    """What comes of each clip, in no certain order."""
    parts = [clips[k::CORES] for k in range(CORES)]
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(_judged, parts, [agent] * CORES)
        return [verdict for some in found for verdict in some]


def _judged(clips: Sequence[Clip], agent: Agent | None) -> list[Verdict]:
    verdicts = [judge(case) for case in pure.run(clips, agent)] if clips else []
    pure.save_words()
    for verdict in verdicts:  # nobody listens to it again, and it is large
        verdict.case.frames = verdict.case.line = np.zeros((0, pure.FRAME), np.int16)
    return verdicts
