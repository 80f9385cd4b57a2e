"""All deaths at random, for a quarter of an hour."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.drill.away import ProxiedStage, restart
from tests.drill.leftovers import resident_mib
from tests.drill.stage import Options
from tests.drill.tally import Tally

_STRIKES_A_BLOCK = 4
_FROZEN_S = 5.0
_QUARTER = 0.25


def chaos(options: Options) -> Tally:
    """Blocks of calls, each with four deaths of any kind; now and then Asterisk restarts."""
    with ProxiedStage("chaos", options) as stage:
        happened: dict[str, int] = {}
        kinds = _kinds(stage)
        began, settled = time.monotonic(), 0.0
        while (passed := time.monotonic() - began) < options.seconds:
            if not settled and passed > _QUARTER * options.seconds:
                settled = resident_mib(stage.bridges)
            names = [stage.random.choice(list(kinds)) for _ in range(_STRIKES_A_BLOCK)]
            options.say(f"chaos: {passed:.0f} s: {', '.join(names)}")
            stage.block([kinds[name] for name in names], round_s=8.0, patience_s=14.0)
            if stage.random.random() < 0.1:
                names.append("asterisk_restart")
                restart(stage, [])
                stage.ready()
            for name in names:
                happened[name] = happened.get(name, 0) + 1
        stage.ready()
        growth = resident_mib(stage.bridges) - (settled or resident_mib(stage.bridges))
        stage.tally.extra |= {"happened": happened, "rss_growth_mib": round(growth, 1)}
        return stage.tally


def _kinds(stage: ProxiedStage) -> dict[str, Callable[[], None]]:
    def kill_worker() -> None:
        os.kill(stage.random.choice(stage.bridge.children("worker")), signal.SIGKILL)

    def kill_media() -> None:
        os.kill(stage.bridge.serving(), signal.SIGKILL)

    def kill_launcher() -> None:
        stage.bridge.kill()
        time.sleep(1.0)
        stage.bridge.start()

    def zombie() -> None:
        _freeze(stage.random.choice(stage.bridge.children("worker")))

    def redis_kill() -> None:
        stage.stack.redis.kill()
        time.sleep(stage.random.uniform(1.0, 10.0))
        stage.stack.redis.start()
        time.sleep(2.0)

    def redis_freeze() -> None:
        _freeze(stage.stack.redis.pid)

    def ari_cut() -> None:
        for _ in range(stage.random.randint(1, 4)):
            stage.cut()
            time.sleep(stage.random.uniform(0.2, 1.5))

    def ari_freeze() -> None:
        stage.freeze(_FROZEN_S)

    def rolling() -> None:
        os.kill(stage.random.choice(stage.bridge.children("worker")), signal.SIGTERM)

    kinds = (
        *(kill_worker, kill_media, kill_launcher, zombie, redis_kill, redis_freeze),
        *(ari_cut, ari_freeze, rolling),
    )
    return {kind.__name__: kind for kind in kinds}


def _freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(_FROZEN_S)
    os.kill(pid, signal.SIGCONT)
