"""Drills in which processes of ours on one host die or freeze."""

from __future__ import annotations

import os
import signal
import time

from tests.drill.rounds import Strike
from tests.drill.stage import Options, Stage
from tests.drill.tally import MOST_VOID, Tally

_ROUNDS_A_BLOCK = 5
FROZEN_S = 5.0


def in_blocks(stage: Stage, strike: Strike, **how: object) -> Tally:
    """That strike again and again, with new calls after every few rounds."""
    stage.tally.may_be_void = MOST_VOID if stage.options.voids else 0
    left = stage.options.rounds
    while left:
        block = stage.block([strike] * min(left, _ROUNDS_A_BLOCK), **how)
        left -= sum(not this.void for this in block.rounds)
    return stage.tally


def kill_worker(options: Options) -> Tally:
    """`kill -9` of one of two workers, of one that has calls if any has by then."""
    # Where nobody takes over, every death has to be noticed: all calls are up when it happens, and
    # everybody who asks is waited for. (In the next round those ask who only listened.)
    how = {"ages": True} if options.takeover else {"early": False, "tools": False}
    with Stage("kill_worker", options) as stage:
        return in_blocks(stage, lambda: kill(stage.random.choice(stage.busy())), **how)


def kill_only_worker(options: Options) -> Tally:
    """`kill -9` of the only worker that takes calls: a warm spare goes on."""
    words = ("--workers", "1", "--spares", "1")
    with Stage("kill_only_worker", options, words) as stage:
        return in_blocks(stage, lambda: kill(stage.bridge.children("worker")[0]))


def kill_media(options: Options) -> Tally:
    """`kill -9` of the media process that serves."""
    with Stage("kill_media", options) as stage:
        return in_blocks(stage, lambda: kill(stage.bridge.serving()))


def kill_launcher(options: Options) -> Tally:
    """`kill -9` of the launcher alone; then it is started again, and its children come back."""
    with Stage("kill_launcher", options) as stage:

        def strike() -> None:
            stage.bridge.kill()
            time.sleep(1.0)
            stage.bridge.start()

        return in_blocks(stage, strike)


def zombie(options: Options) -> Tally:
    """A worker is stopped for 5 s and goes on: its calls have moved, and it lets go of them."""
    with Stage("zombie", options) as stage:

        def strike() -> None:
            pid = stage.random.choice(stage.bridge.children("worker"))
            os.kill(pid, signal.SIGSTOP)
            time.sleep(FROZEN_S)
            os.kill(pid, signal.SIGCONT)

        return in_blocks(stage, strike, round_s=FROZEN_S + 2.5)


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)
