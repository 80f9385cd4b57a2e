"""Calls that stay up over several rounds; in each something dies at a random moment.

In every round half of the callers have just asked for a long answer, of which at least 3 s wait
when it happens; they must hear it whole and once. The others press a key from about that moment on,
again and again until they are answered, as people do; then they say a word, which must be
answered too. Two of them have started a tool that takes a second, and ask when it is over. Roles
change with each round.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.demo.voice import clip
from tests.drill import engine
from tests.drill.callers import Callers
from tests.drill.judge import Call, same_words
from tests.drill.records import Records, Saying, Transcript
from tests.drill.tally import Tally
from tests.lab.asterisk import Asterisk
from tests.lab.capture import PCMU, TABLES

LONG, SHORT = "700", "701"
"""Extensions of the agents with a long and a short greeting."""
_PRESS_EVERY_S = 0.4
_ANSWER_S = 12.0
_AFTER_ANSWER_S = 1.0
_LONG_AGAIN_S, _LONG_S = 1.5, 3.0
"""When they press again who have not got their long answer yet, and how long that is waited for."""
_NOTED_MS = 50.0
"""Who goes without a packet for longer is told of."""
_SLOW_MS = 800.0
"""Nor should an answer take longer."""


@dataclass
class Round:
    """What was asked of whom, and when it happened. Times are epoch seconds."""

    number: int
    struck: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    greeting: bool = False
    """It happened while calls were set up or greeted: nobody was asked for a long answer."""
    tool_users: tuple[int, ...] = ()
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Of each call: its longest time without a packet, ms, and when that began."""
    answers: list[float] = field(default_factory=list)
    """How long each who asked had to wait, ms."""
    slowest: tuple[float, str] = (0.0, "")
    """The longest of these, and whose it is."""
    saying: Mapping[int, Saying] = field(default_factory=dict)
    """What the records said just before it happened, by caller."""
    void: bool = False
    """The machine stood still: these don't count."""

    @property
    def long_key(self) -> int:
        return engine.LONG_KEYS[self.number % len(engine.LONG_KEYS)]

    @property
    def short_key(self) -> int:
        return engine.SHORT_KEYS[self.number % len(engine.SHORT_KEYS)]

    def listens(self, n: int) -> bool:
        """Whether call n was being spoken to; the others ask."""
        return (n + self.number * (not self.greeting)) % 2 == 0


Strike = Callable[[], None]


@dataclass
class Block:
    """`calls` callers who stay for some rounds.

    Args:
        pbx: whom they call.
        tally: where all is counted.
        records: what is remembered of the calls.
        round_s: from one strike to the next round, at least.
        early: the first strike comes while the calls are set up.
        ready: returns when the next round may begin.
    """

    pbx: Asterisk
    tally: Tally
    records: Records
    random: random.Random
    calls: int = 20
    round_s: float = 4.6
    early: bool = True
    ready: Callable[[], None] = lambda: None
    patience_s: float = 6.0
    """So long a caller presses keys; who isn't answered then never was."""
    word_ms: int = 220
    """Of a sentence, so much may be missing or come twice."""
    tools: bool = True
    tool_users: int = 2
    """Of those who press a key, so many start a tool before."""
    tool_spread: tuple[float, float] = (0.0, 0.5)
    """How long before the strike at least they do, and at most, s."""
    tool_s: float = 1.2
    """So long nobody presses another key who has started a tool."""
    ages: bool = False
    """Just before each strike, look how old what the records say is."""
    spoken: bool = True
    extensions: tuple[str, str] = (LONG, SHORT)
    """Of the callers of even and of odd places."""
    number: int = 100_000
    """The first caller's; each next one's is one higher."""
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clip = _clip()

    def hold(self, strikes: list[Strike], first: int = 0) -> None:
        """A round for each strike, then everybody hangs up, and all is judged.

        `first`: the number of the first round.
        """
        with tempfile.TemporaryDirectory() as folder:
            callers = Callers(
                *(self.pbx, list(self.extensions), self.calls, 600.0),
                number=self.number,
                clip=self.clip,
            )
            with callers.capture(Path(folder) / "block.pcap") as capture, callers:
                for number, strike in enumerate(strikes, first):
                    self._round(callers, strike, Round(number))
                hung_up = time.time()
                callers.hang_up()
                callers.finished(5.0)
            by_port: dict[int, list] = {callers.port(n): [] for n in range(self.calls)}
            for packet in capture.packets:
                if not packet.sent and packet.port in by_port:
                    by_port[packet.port].append(packet)
        heard = [Call(by_port[callers.port(n)]) for n in range(self.calls)]
        self._judge(heard, hung_up)
        self.tally.calls += self.calls
        self.tally.rounds += len(strikes)

    # What happens ---------------------------------------------------------------------------------

    def _round(self, callers: Callers, strike: Strike, this: Round) -> None:
        this.greeting = self.early and not self.rounds
        this.began = time.time()
        if this.greeting:
            callers.pump(self.random.uniform(0.2, 1.6))
        else:
            self._all_answered(callers)
            self._wait(callers, self.ready)
            this.began = time.time()
            self._ask_for_long(callers, this)
        soon = time.monotonic() + self.random.uniform(0.05, 0.6)
        soon += self.tool_spread[1] - 0.5  # those who start a tool do so before
        asked = {
            n: soon + self.random.uniform(-0.05, 0.35)
            for n in range(self.calls)
            if not this.listens(n)
        }
        if self.tools:
            this.tool_users = tuple(
                self.random.sample(sorted(asked), min(self.tool_users, len(asked)))
            )
            for n in this.tool_users:
                at = soon - self.random.uniform(*self.tool_spread)
                callers.press(n, engine.TOOL_KEY, at)
                asked[n] = at + self.tool_s
        callers.pump(max(0.0, soon - time.monotonic()))
        numbers = range(self.number, self.number + self.calls)

        def look_and_strike() -> None:
            if self.ages:
                this.saying = self.records.saying(numbers)
            strike()

        this.struck = time.time()
        striking = threading.Thread(target=look_and_strike, name="strike")
        striking.start()
        self._ask(callers, this, asked)
        while striking.is_alive():
            callers.pump(0.05)
        callers.pump(max(0.0, this.struck + self.round_s - time.time()))
        if this.greeting:  # who was answered late is still being greeted
            self._all_answered(callers)
            last = max(callers.answered_at(n) for n in range(self.calls))
            callers.pump(max(0.0, last + engine.LONG_MS / 1000 + 0.5 - time.time()))
        this.ended = time.time()
        self.rounds.append(this)

    def _all_answered(self, callers: Callers) -> None:
        until = time.monotonic() + _ANSWER_S
        while callers.answered() < self.calls and time.monotonic() < until:
            callers.pump(0.02)

    def _wait(self, callers: Callers, for_what: Callable[[], None]) -> None:
        """Pump while something is waited for."""
        waiting = threading.Thread(target=for_what)
        waiting.start()
        while waiting.is_alive():
            callers.pump(0.02)

    def _ask_for_long(self, callers: Callers, this: Round) -> None:
        listeners = [n for n in range(self.calls) if this.listens(n)]
        for n in listeners:
            callers.press(n, this.long_key, time.monotonic() + self.random.uniform(0.0, 0.15))
        hz, began, again = engine.hz_of_key(this.long_key), time.monotonic(), False
        while time.monotonic() < began + _LONG_S:
            callers.pump(0.01)
            deaf = [n for n in listeners if not callers.heard(n, hz, this.began)]
            if not deaf:
                break
            if not again and time.monotonic() > began + _LONG_AGAIN_S:
                again = True  # a call was just changing hands
                for n in deaf:
                    callers.press(n, this.long_key)

    def _ask(self, callers: Callers, this: Round, asked: dict[int, float]) -> None:
        """Each presses its key until it is answered, then says a word."""
        hz, until = engine.hz_of_key(this.short_key), time.time() + self.patience_s
        speak: dict[int, float] = {}
        unheard = set(asked) if self.spoken else set()
        while (asked or unheard) and time.time() < until:
            callers.pump(0.01)
            now = time.monotonic()
            for n, at in [*asked.items()]:
                if callers.heard(n, hz, this.struck):
                    del asked[n]
                    speak[n] = now + _AFTER_ANSWER_S
                elif now >= at:
                    callers.press(n, this.short_key)
                    asked[n] = now + _PRESS_EVERY_S
            if not self.spoken:
                continue
            for n, at in [*speak.items()]:
                if now >= at:
                    callers.speak(n)
                    del speak[n]
            unheard -= {n for n in unheard if callers.heard(n, engine.SPOKEN_HZ, this.struck)}
        callers.pump(0.8)  # the last answers are heard out

    # What came of it ------------------------------------------------------------------------------

    def _judge(self, heard: list[Call], hung_up: float) -> None:
        tally = self.tally
        told = self.records.take(range(self.number, self.number + self.calls))
        for n, call in enumerate(heard):
            name = f"call {self.number + n}"
            if not call.answered_at:
                tally.miss("lost", f"{name} was never answered")
                continue
            if self._left(n, call):
                continue
            if call.ended_at < hung_up - 0.5:
                since = call.ended_at - max(r.struck for r in self.rounds)
                tally.miss("lost", f"{name} ended {since:.2f} s after the last strike")
                continue
            if call.two_voices():
                tally.miss("two_voices", name)
            for hz, length in zip(
                engine.GREETING_HZ, (engine.LONG_MS, engine.SHORT_MS), strict=True
            ):
                if (ms := call.heard_ms(hz)) > length + self.word_ms:
                    tally.miss("greeted_twice", f"{name} heard {ms} ms of {hz} Hz")
            for this, following in zip(self.rounds, [*self.rounds[1:], None], strict=True):
                until = following.struck - 0.2 if following else hung_up - 0.1
                since = max(this.struck - 0.2, call.answered_at)
                this.gaps.append(call.gap(since, until))
                self._judge_round(call, n, this, f"{name}, round {this.number}")
            self._judge_transcript(call, name, told.get(self.number + n))
        for this, following in zip(self.rounds, [*self.rounds[1:], None], strict=True):
            self._judge_gaps(this, following.struck if following else hung_up)
        asked_for = Counter(self.number + n for this in self.rounds for n in this.tool_users)
        for number, times in self.records.tools_used().items():
            tally.tools += times
            for _ in range(times - asked_for[number]):
                tally.miss("tools_twice", f"call {number}: {times} times")

    def _left(self, n: int, call: Call) -> bool:
        """Whether that call was over early, and rightly so."""
        return False

    def _judge_round(self, call: Call, n: int, this: Round, name: str) -> None:
        tally = self.tally
        if (said := this.saying.get(self.number + n)) is not None:
            age = call.age_ms(said.hz, said.heard_ms, said.read_at, this.began)
            tally.noted += [] if age is None else [age]
        if this.listens(n):
            hz = engine.GREETING_HZ[0] if this.greeting else engine.hz_of_key(this.long_key)
            self._judge_long(call.heard_ms(hz, this.began, this.ended), hz, name)
            return
        answer = call.answered_ms(engine.hz_of_key(this.short_key), this.struck)
        if answer is None or answer > self.patience_s * 1000:
            tally.miss("unanswered", name)
        if n not in this.tool_users:
            this.answers.append(self.patience_s * 1000 if answer is None else answer)
            this.slowest = max(this.slowest, (this.answers[-1], name))
        spoken = call.heard_ms(engine.SPOKEN_HZ, this.struck, this.ended)
        if self.spoken and answer is not None and not spoken:
            tally.miss("unheard", name)

    def _judge_gaps(self, this: Round, until: float) -> None:
        this.void = self.tally.void(this.struck - 0.2, until)
        if this.void:
            self.tally.note(f"round {this.number} is void: the machine stood still")
        else:
            self.tally.packet_gaps += [ms for ms, _ in this.gaps]
            self.tally.answer_gaps += this.answers
        if this.slowest[0] > _SLOW_MS:
            self.tally.note(f"{this.slowest[1]}: answered after {this.slowest[0]:.0f} ms")
        if long := [gap for gap in this.gaps if gap[0] > _NOTED_MS]:
            ms, since = max(long)
            self.tally.note(
                f"round {this.number}: {len(long)} calls without a packet for up to {ms:.0f} ms, "
                f"{since - this.struck:+.2f} s after the strike; a processor stood still for "
                f"{self.tally.one_still_ms(since, since + ms / 1000):.0f} ms then"
            )

    def _judge_long(self, ms: int, hz: int, name: str) -> None:
        if ms < engine.LONG_MS - self.word_ms:
            self.tally.miss("words_lost", f"{name} heard {ms} ms of {hz} Hz")
        if ms > engine.LONG_MS + self.word_ms:
            self.tally.miss("words_twice", f"{name} heard {ms} ms of {hz} Hz")

    def _judge_transcript(self, call: Call, name: str, told: Transcript | None) -> None:
        if told is None:
            self.tally.miss("transcript_lost", f"{name} has no record")
            return
        self.tally.takeovers += told.events.count("taken over")
        if not same_words(call.words(), told.agent):
            self.tally.miss(
                "transcript_lost",
                f"{name} heard {_short(call.words())} and {_short(told.agent)} is written",
            )
        keys = {engine.hz_of_key(int(key)) for key in told.keys if key.isdigit()}
        asked = {hz for hz in (t.hz for t in call.tones) if hz in range(1000, engine.SPOKEN_HZ)}
        if missing := asked - keys:
            self.tally.miss("transcript_lost", f"{name}: no key for the answers {sorted(missing)}")


def _short(words: list[tuple[str, float]]) -> str:
    return " ".join(f"{n:.1f}×{word}" for word, n in words)


def _clip() -> bytes:
    """A word in a human voice, µ-law."""
    pcm = clip("hello").pcm.astype(np.int32)
    table = TABLES[PCMU].astype(np.int32)
    order = np.argsort(table, kind="stable")
    at = np.clip(np.searchsorted(table[order], pcm), 0, 255)
    return order[at].astype(np.uint8).tobytes()
