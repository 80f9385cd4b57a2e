"""A rolling restart of all workers while calls keep coming."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from tests.drill import engine
from tests.drill.callers import Callers
from tests.drill.judge import Call, same_words
from tests.drill.rounds import LONG, SHORT
from tests.drill.stage import Options, Stage
from tests.drill.tally import Tally
from tests.lab.capture import RtpPacket

_RATE, _STAY_S = 2, 10.0
_KEY = 2
_PRESS_EVERY_S, _PATIENCE_S = 0.5, 5.0
_REST_S = 2.0


def rolling(options: Options) -> Tally:
    """SIGTERM to each worker in turn, `rounds` times over; calls arrive at 2/s and stay 10 s."""
    with Stage("rolling", options) as stage:
        over = threading.Event()
        roller = threading.Thread(target=_roll, args=(stage, over), name="roller")
        most = int(_RATE * 20 * max(1, options.rounds) * stage.workers)
        callers = Callers(*(stage.stack.pbx, [LONG, SHORT], most, _STAY_S, _RATE), number=100_000)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rolling.pcap"
            with callers.capture(file) as capture, callers:
                callers.pump(_STAY_S)  # by then as many end as come
                roller.start()
                _talk(callers, over)
                callers.stop()
                callers.finished(_STAY_S + 10)
            roller.join()
            _judge(stage, callers, capture.packets)
        stage.look()
        return stage.tally


def _roll(stage: Stage, over: threading.Event) -> None:
    try:
        for _ in range(stage.options.rounds):
            for pid in stage.bridge.children("worker"):
                os.kill(pid, signal.SIGTERM)
                while pid in stage.bridge.children("worker"):
                    time.sleep(0.1)
                stage.ready()
                time.sleep(_REST_S)
            stage.tally.rounds += 1
    finally:
        over.set()


def _talk(callers: Callers, over: threading.Event) -> None:
    """Every caller presses a key 5 s after he was answered, until he hears its answer."""
    hz = engine.hz_of_key(_KEY)
    pressed: dict[int, float] = {}
    while not over.is_set():
        callers.pump(0.02)
        now = time.time()
        for n in range(callers.count):
            at = callers.answered_at(n)
            asks = at and 5.0 < now - at < 5.0 + _PATIENCE_S - 1
            if asks and not callers.heard(n, hz, at) and now - pressed.get(n, 0) > _PRESS_EVERY_S:
                pressed[n] = now
                callers.press(n, _KEY)


def _judge(stage: Stage, callers: Callers, packets: list[RtpPacket]) -> None:
    tally = stage.tally
    told = stage.records.take(range(callers.number, callers.number + callers.begun))
    by_port: dict[int, list[RtpPacket]] = {}
    for packet in packets:
        if not packet.sent:
            by_port.setdefault(packet.port, []).append(packet)
    refused = 0
    for n in range(callers.begun):
        call, name = Call(by_port.get(callers.port(n), [])), f"call {callers.number + n}"
        if not any(tone.hz in engine.GREETING_HZ for tone in call.tones):
            refused += 1
            tally.note(f"refused: {name}")
            continue
        tally.packet_gaps.append(call.gap_ms(call.answered_at, call.ended_at))
        if call.ended_at - call.answered_at < _STAY_S - 0.5:
            tally.miss("lost", f"{name} lasted {call.ended_at - call.answered_at:.1f} s")
        if call.two_voices():
            tally.miss("two_voices", name)
        long = n % 2 == 0
        hz, length = engine.GREETING_HZ[not long], engine.LONG_MS if long else engine.SHORT_MS
        ms = call.heard_ms(hz)
        if ms > length + 220:
            tally.miss("greeted_twice", f"{name} heard {ms} ms of {hz} Hz")
        if ms < length - 220:
            tally.miss("words_lost", f"{name} heard {ms} ms of {hz} Hz")
        record = told.get(callers.number + n)
        if record is None or not same_words(call.words(), record.agent):
            tally.miss("transcript_lost", f"{name}: {record}")
        tally.takeovers += record.events.count("taken over") if record else 0
    tally.calls += callers.begun
    tally.extra["refused"] = refused
