"""Drills in which what we depend on is away for a while: Redis, Asterisk's ARI, Asterisk itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np

from tests.drill import engine
from tests.drill.callers import Callers
from tests.drill.judge import Call
from tests.drill.rounds import LONG, SHORT
from tests.drill.stage import Options, Stage
from tests.drill.tally import MOST_VOID, Tally
from tests.pbx.proxy import Proxy

EMPTY_S, FROZEN_S = 10.0, 5.0
_CUTS, _CUTS_A_ROUND = 20, 5
_MARKED_S = 5.0
_STAY_S = 6.0


def redis_kill(options: Options) -> Tally:
    """SIGKILL, and back empty after 10 s: nobody takes anything over."""
    with Stage("redis_kill", options) as stage:

        def strike() -> None:
            stage.stack.redis.kill()
            time.sleep(EMPTY_S)
            stage.stack.redis.start()
            time.sleep(2.0)

        return _nobody_moves(stage, strike, EMPTY_S + 3.0)


def redis_freeze(options: Options) -> Tally:
    """Redis is stopped for 5 s: nobody takes anything over."""
    with Stage("redis_freeze", options) as stage:

        def strike() -> None:
            os.kill(stage.stack.redis.pid, signal.SIGSTOP)
            time.sleep(FROZEN_S)
            os.kill(stage.stack.redis.pid, signal.SIGCONT)

        return _nobody_moves(stage, strike, FROZEN_S + 3.0)


def _nobody_moves(stage: Stage, strike: Callable[[], None], round_s: float) -> Tally:
    for _ in range(stage.options.rounds):
        stage.block([lambda: None, strike], round_s=round_s)
    stage.tally.extra["owner_changes"] = stage.tally.takeovers
    return stage.tally


# Asterisk's ARI -----------------------------------------------------------------------------------


class ProxiedStage(Stage):
    """A stage whose bridge reaches ARI through a proxy, which runs in a thread of its own."""

    def prepare(self, started: contextlib.ExitStack) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        thread.start()
        self.proxy = Proxy(self.stack.pbx.ari_port)
        self._do(self.proxy.__aenter__())
        self.made["asterisk"] = {"url": f"http://127.0.0.1:{self.proxy.port}"}

        def stop() -> None:
            self._do(self.proxy.__aexit__())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

        started.callback(stop)

    def cut(self) -> None:
        """Cut every connection."""
        self._loop.call_soon_threadsafe(self.proxy.cut)

    def freeze(self, seconds: float) -> None:
        """Carry nothing for so long."""
        self._loop.call_soon_threadsafe(self.proxy.freeze)
        time.sleep(seconds)
        self._loop.call_soon_threadsafe(self.proxy.thaw)

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def ari_cut(options: Options) -> Tally:
    """The ARI WebSocket is cut 20 times; then Asterisk's HTTP is frozen for 5 s."""
    with ProxiedStage("ari_cut", options) as stage:
        cuts = 0

        def cut() -> None:
            nonlocal cuts
            for _ in range(_CUTS_A_ROUND):
                stage.cut()
                cuts += 1
                time.sleep(stage.random.uniform(0.2, 1.5))

        strikes = [cut] * (_CUTS // _CUTS_A_ROUND) + [lambda: stage.freeze(FROZEN_S)]
        stage.tally.may_be_void = MOST_VOID
        for _ in range(options.rounds):
            todo = strikes
            while todo:
                block = stage.block(todo, round_s=FROZEN_S + 2.5, patience_s=12.0)
                todo = [s for s, this in zip(todo, block.rounds, strict=True) if this.void]
        stage.tally.extra["cuts"] = cuts
        return stage.tally


# Asterisk itself ----------------------------------------------------------------------------------


def asterisk_restart(options: Options) -> Tally:
    """Asterisk is killed and restarted: every session is marked, new calls are answered at once."""
    with Stage("asterisk_restart", options) as stage:
        answered: list[float] = []
        for _ in range(options.rounds):
            restart(stage, answered)
        stage.tally.extra["new_call_answered_ms"] = {
            "p99": round(float(np.percentile(answered, 99)), 1) if answered else None
        }
        return stage.tally


def restart(stage: Stage, answered: list[float]) -> None:
    """One such round; `answered` gets ms from Asterisk's being up to each new call's answer."""
    tally, count = stage.tally, stage.options.calls
    first = 100_000 + tally.calls
    with Callers(stage.stack.pbx, [LONG, SHORT], count, 60.0, number=first) as callers:
        _until(callers, lambda: callers.answered() == count, 10.0)
        callers.pump(stage.random.uniform(0.5, 2.5))
        stage.stack.pbx.kill()
        callers.pump(1.0)
    stage.stack.pbx.start()
    up = time.time()
    with tempfile.TemporaryDirectory() as folder:
        callers = Callers(*(stage.stack.pbx, [LONG, SHORT], count, _STAY_S), number=first + count)
        file = Path(folder) / "new.pcap"
        with callers.capture(file) as capture, callers:
            _until(callers, lambda: time.time() > up + _MARKED_S, 2 * _MARKED_S)
            told = stage.records.read(range(first, first + count))
            callers.finished(_STAY_S + 10)
        packets = capture.packets
    for number in range(first, first + count):
        record = told[number][1] if number in told else None
        if record is None or record.state != "ended":
            tally.miss("lost", f"call {number} was not marked as ended after {_MARKED_S:.0f} s")
        elif not up - 5 < record.ended < up + _MARKED_S:
            tally.miss("lost", f"call {number} was marked as ended {record.ended - up:.1f} s after")
    stage.records.take(range(first, first + 2 * count))
    for n in range(count):
        port = callers.port(n)
        call = Call([p for p in packets if p.port == port and not p.sent])
        if not any(tone.hz in engine.GREETING_HZ for tone in call.tones):
            tally.miss("lost", f"call {first + count + n}, a new one, was not greeted")
            continue
        answered.append((call.answered_at - up) * 1000)
        tally.packet_gaps.append(call.gap_ms(call.answered_at, call.ended_at))
    tally.rounds += 1
    tally.calls += 2 * count
    stage.look()


def _until(callers: Callers, done: Callable[[], bool], most_s: float) -> None:
    until = time.monotonic() + most_s
    while not done() and time.monotonic() < until:
        callers.pump(0.02)
