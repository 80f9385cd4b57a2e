"""One round of a drill: calls, a death at a random moment, and what came of it."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import redis as redis_client

from bridge.media.slots import FREE, SlotMap
from tests.drill.callers import Callers
from tests.drill.engine import GREETING_HZ, sentence
from tests.drill.judge import Call, words_heard
from tests.lab.capture import Capture
from tests.lab.root import program
from tests.lab.stack import Stack

LONG, SHORT = "700", "701"
"""Extensions of the agents with a long and a short greeting."""
_PRESS_EVERY_S = 0.6

AGENT = """engine = "drill"
greeting = "{greeting}"
[turns]
no_input_ms = 60000
[transfer]
extensions = ["200"]
"""


def environment(folder: Path) -> dict[str, str]:
    """A plug-in folder with the drill's engine: its entry point, and our own code."""
    info = folder / "ari_bridge_drill-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ari-bridge-drill\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[ari_bridge.engines]\ndrill = tests.drill.engine:provider\n"
    )
    root = Path(__file__).parents[2]
    return {"PYTHONPATH": f"{folder}:{root}"}


def agents(folder: Path) -> Path:
    """The agents of the drill, under the names that the sample dialplan calls."""
    folder.mkdir()
    long = " ".join(sentence(hz, long=True) for hz in GREETING_HZ)
    (folder / "demo.toml").write_text(AGENT.format(greeting=long))
    (folder / "echo.toml").write_text(AGENT.format(greeting=sentence(GREETING_HZ[0], long=False)))
    return folder


@dataclass
class Tally:
    """What all rounds of a drill came to."""

    rounds: int = 0
    calls: int = 0
    lost: int = 0
    transcript_lost: int = 0
    greeted_twice: int = 0
    tools_twice: int = 0
    two_voices: int = 0
    packet_gaps: list[float] = field(default_factory=list)
    answer_gaps: list[float] = field(default_factory=list)
    unanswered: int = 0
    leftovers: int = 0
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """As it stands in summary.json."""
        gaps, answers = np.array(self.packet_gaps or [0.0]), np.array(self.answer_gaps or [0.0])
        return {
            "rounds": self.rounds,
            "calls": self.calls,
            "lost": self.lost,
            "transcript_lost": self.transcript_lost,
            "greeted_twice": self.greeted_twice,
            "tools_twice": self.tools_twice,
            "two_voices": self.two_voices,
            "unanswered": self.unanswered,
            "packet_gap_ms": {
                "p50": round(float(np.percentile(gaps, 50)), 1),
                "p99": round(float(np.percentile(gaps, 99)), 1),
                "max": round(float(gaps.max()), 1),
            },
            "answer_gap_ms": {
                "p50": round(float(np.percentile(answers, 50)), 1),
                "p99": round(float(np.percentile(answers, 99)), 1),
            },
            "leftovers": self.leftovers,
        }


@dataclass
class Drill:
    """A stack, and rounds on it."""

    stack: Stack
    calls: int = 20
    seconds: float = 14.0
    random: random.Random = field(default_factory=lambda: random.Random(1))
    tally: Tally = field(default_factory=Tally)

    def round(self, strike: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        """Calls; half of them hear a long greeting, the others press keys after the strike.

        Args:
            strike: what is done to the bridge in mid-call.
            after: done when the calls are over, before leftovers are looked for.
        """
        tally, count = self.tally, self.calls
        with tempfile.TemporaryDirectory() as folder:
            callers = Callers(self.stack.pbx, [LONG, SHORT], count, self.seconds)
            capture = Capture(
                Path(folder) / "round.pcap", callers.ports, program=str(program("tcpdump"))
            )
            with capture, callers:
                self._wait(callers, count)
                self._idle(callers, 1.0 + self.random.uniform(0.0, 1.5))
                struck = time.time()
                strike()
                self._press(callers, capture, struck)
                if not callers.finished(self.seconds + 15):
                    tally.notes.append("SIPp counted failed calls")
            heard = [Call.of(capture.packets, callers.port(n)) for n in range(count)]
        if after is not None:
            after()
        self._judge(heard, struck)
        tally.rounds += 1
        tally.calls += count
        tally.leftovers += self._leftovers()

    def _wait(self, callers: Callers, count: int) -> None:
        until = time.monotonic() + 8
        while callers.drain() < count and time.monotonic() < until:
            time.sleep(0.02)
        if callers.drain() < count:
            self.tally.notes.append(f"only {callers.drain()} of {count} calls were answered")

    def _idle(self, callers: Callers, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            callers.drain()
            time.sleep(0.02)

    def _press(self, callers: Callers, capture: Capture, struck: float) -> None:
        """Each impatient caller presses its key until it is answered, as people do."""
        waiting = {n for n in range(self.calls) if n % 2}
        time.sleep(0.05)
        until = time.time() + 5
        while waiting and time.time() < until:
            for n in sorted(waiting):
                callers.press(n, n % 8)
            self._idle(callers, _PRESS_EVERY_S)
            packets = list(capture.packets)
            waiting = {
                n for n in waiting if Call.of(packets, callers.port(n)).answer_ms(struck) is None
            }

    def _judge(self, heard: list[Call], struck: float) -> None:
        tally = self.tally
        transcripts = self._transcripts()
        for n, call in enumerate(heard):
            last = call.packets[-1].at if call.packets else 0.0
            if not call.packets or last < call.answered_at + self.seconds - 0.3:
                tally.lost += 1
                tally.notes.append(f"call {n} ended {last - struck:.2f} s after the strike")
                continue
            tally.packet_gaps.append(call.gap_ms(struck - 0.5, struck + 5))
            tally.greeted_twice += any(call.twice(hz) for hz in GREETING_HZ)
            tally.two_voices += call.two_voices() > 2
            answer = call.answer_ms(struck)
            if n % 2 and answer is None:
                tally.unanswered += 1
            if n % 2 and answer is not None:
                tally.answer_gaps.append(answer)
            # The call may be over before the greeting's third sentence is.
            if n % 2 == 0 and not all(call.whole(hz) for hz in GREETING_HZ[:2]):
                tally.transcript_lost += 1
                tones = [(t.hz, t.heard_ms) for t in call.tones]
                tally.notes.append(f"call {n} heard {tones}")
            said = words_heard(call)
            if not any(_holds(lines, said) for lines in transcripts):
                tally.transcript_lost += 1
                tally.notes.append(f"call {n} heard {said}, which is in no transcript")

    def _transcripts(self) -> list[list[str]]:
        """The agent's lines of every call there is; they are used up by the next round."""
        server = redis_client.Redis.from_url(self.stack.redis.url, decode_responses=True)
        found = []
        for key in server.scan_iter("ari-bridge:*:transcript"):
            lines = [entry for _, entry in server.xrange(key)]
            found.append([line["text"] for line in lines if line["role"] == "agent"])
            events = [line["text"] for line in lines if line["role"] == "event"]
            tools = [text for text in events if text.startswith(("transfer", "hang_up"))]
            self.tally.tools_twice += len(tools) - len(set(tools))
            server.delete(key)
        server.close()
        return found

    def _leftovers(self) -> int:
        """Channels, mixing bridges, live sessions and slots that are still there."""
        left = self.stack.pbx.wait_idle(8.0)
        server = redis_client.Redis.from_url(self.stack.redis.url, decode_responses=True)
        until = time.monotonic() + 5
        while (live := server.hlen("ari-bridge:live")) and time.monotonic() < until:
            time.sleep(0.1)
        server.close()
        slots = SlotMap.attach(self.stack.bridge.directory / "run" / "media.slots")
        while (taken := int((slots.columns["state"] != FREE).sum())) and time.monotonic() < until:
            time.sleep(0.1)
        if left or live or taken:
            self.tally.notes.append(f"left over: {left}, {live} sessions, {taken} slots")
        return len(left) + int(live) + taken


def _holds(lines: list[str], said: dict[str, float]) -> bool:
    """Whether a transcript holds what was heard, to two words (a takeover may split one)."""
    written = Counter(word.strip(".").lower() for line in lines for word in line.split())
    return all(abs(written[word] - said.get(word, 0.0)) <= 2 for word in {*written, *said})
