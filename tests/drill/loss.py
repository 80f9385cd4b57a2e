"""The drill `engine_loss`: the voice of all agents dies in mid-sentence, stays away, or hangs.

In turn it is killed, killed and kept away for some seconds, stopped and let go on, and kept away
for good: then the agent on extension 700 has another to stand in for it, and the callers of 701 go
on in the dialplan. Half of the callers are being spoken to when it happens; the others press a key
or say a word just then, once, and wait. `filler_ms` is for each of them the longest silence before
he heard something, filler or speech, from the moment that he had stopped speaking, or that the
agent had in the middle of what it owed. Between two fillers there may be more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.drill import engine
from tests.drill.callers import Callers
from tests.drill.judge import Call
from tests.drill.rounds import LONG, SHORT, Block, Round, Strike
from tests.drill.stage import Options, Stage
from tests.drill.tally import Tally
from tests.drill.voice import AWAY
from tests.lab.capture import RATE

_SILENT_S, _GIVE_UP_S = 1.5, 3.0
_AWAY_S, _HANGS_S = 2.5, 3.0
_SETTINGS = f"""engine_silent_s = {_SILENT_S}
engine_give_up_s = {_GIVE_UP_S}
"""
_PATIENCE_S = 12.0
_ROUND_S = 9.5
"""Within this a long answer that was held up is over."""
_PAUSE_MS = 150.0
"""Two sentences of one answer are no further apart."""
_NOTED_MS = 1000.0
_CLIP_END_S = 0.08
"""Silence at the end of what a caller says."""


@dataclass
class LossBlock(Block):
    """A block in which keys are pressed once, and words are said meanwhile."""

    asked_at: dict[tuple[int, int], float] = field(default_factory=dict)
    """When who had asked in which round, epoch seconds."""
    last: bool = False
    """Its last strike is for good."""

    def _ask(self, callers: Callers, this: Round, asked: dict[int, float]) -> None:
        seconds = len(self.clip) / RATE
        speaks = {n: (n + this.number) % 4 < 2 for n in asked}
        wanted = {
            n: engine.SPOKEN_HZ if speaks[n] else engine.hz_of_key(this.short_key) for n in asked
        }
        waiting = set(asked)
        until = time.time() + self.patience_s
        while waiting and time.time() < until:
            callers.pump(0.01)
            for n, at in [*asked.items()]:
                if time.monotonic() < at:
                    continue
                del asked[n]
                if speaks[n]:
                    callers.speak(n)
                    self.asked_at[this.number, n] = time.time() + seconds - _CLIP_END_S
                else:
                    callers.press(n, this.short_key)
                    self.asked_at[this.number, n] = time.time()
            waiting -= {n for n in waiting if callers.heard(n, wanted[n], this.struck)}
        callers.pump(0.8)

    def _judge_round(self, call: Call, n: int, this: Round, name: str) -> None:
        tally = self.tally
        if this.listens(n):
            hz = engine.hz_of_key(this.long_key)
            self._judge_long(call.heard_ms(hz, this.began, this.ended), hz, name)
            heard = [tone for tone in call.tones if tone.hz == hz and tone.start > this.began]
            if heard:
                self._judge_silence(call, this.struck, heard[-1].end, f"{name}, spoken to")
            return
        since = self.asked_at[this.number, n]
        for hz in (engine.SPOKEN_HZ, engine.hz_of_key(this.short_key)):
            answer = call.answered_ms(hz, since)
            if answer is not None and answer < self.patience_s * 1000:
                this.answers.append(answer)
                self._judge_silence(call, since, since + answer / 1000, f"{name}, asking")
                return
        tally.miss("unanswered", name)

    def _judge_silence(self, call: Call, since: float, until: float, name: str) -> None:
        longest = 0.0
        for start, end, filled in call.silences(since, until):
            if not filled and (ms := (end - start) * 1000) > _PAUSE_MS:
                longest = max(longest, ms)
        self.tally.fillers.append(longest)
        if longest > _NOTED_MS:
            self.tally.note(f"{name}: heard nothing for {longest:.0f} ms")

    def _left(self, n: int, call: Call) -> bool:
        if not self.last or self.extensions[n % 2] == LONG:
            return False
        final = self.rounds[-1]
        for this in self.rounds[:-1]:
            self._judge_round(call, n, this, f"call {self.number + n}, round {this.number}")
        since = final.struck if final.listens(n) else self.asked_at[final.number, n]
        engaged = call.others_at(since)
        if engaged is None:
            self.tally.miss("lost", f"call {self.number + n} heard nothing of the dialplan")
        else:
            self.tally.extra["given_back"] = int(str(self.tally.extra.get("given_back", 0))) + 1
            self._judge_silence(call, since, engaged, f"call {self.number + n}, given back")
        return True


class LossStage(Stage):
    """A stage whose agents speak with a voice that can die; one has another to stand in for it."""

    def prepare(self, started: contextlib.ExitStack) -> None:
        folder = Path(str(self.made["agents"]["folder"]))
        whole = (folder / "demo.toml").read_text()
        for name, more in (("demo", 'fallback = "standby"\n'), ("echo", "")):
            text = _SETTINGS + more + (folder / f"{name}.toml").read_text()
            (folder / f"{name}.toml").write_text(text + "\n[drill]\nmortal = true\n")
        (folder / "standby.toml").write_text(whole)
        self._away = Path(self.environment[engine.TASKS_FOLDER]) / AWAY

    def ready(self) -> None:
        """Wait until there are workers, whose voices may come back."""
        self._away.unlink(missing_ok=True)
        super().ready()

    def killed(self) -> None:
        """Dead, and there again as soon as it is needed."""
        self._each(signal.SIGKILL)

    def away(self) -> None:
        """Dead for some seconds."""
        self._away.touch()
        self._each(signal.SIGKILL)
        time.sleep(_AWAY_S)
        self._away.unlink()

    def hangs(self) -> None:
        """Stopped, without a word, for some seconds."""
        pids = self._each(signal.SIGSTOP)
        time.sleep(_HANGS_S)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def gone(self) -> None:
        """Dead for good."""
        self._away.touch()
        self._each(signal.SIGKILL)

    def _each(self, how: signal.Signals) -> list[int]:
        pids = list(self._voices())
        for pid in pids:
            os.kill(pid, how)
        return pids

    def _voices(self) -> Iterator[int]:
        workers = self.bridge.children("worker")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in workers and b"tests.drill.voice" in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def engine_loss(options: Options) -> Tally:
    """The voice dies in four ways in turn; the last is for good, and new calls follow it."""
    with LossStage("engine_loss", options, blocks=LossBlock) as stage:
        ways: list[Strike] = [stage.killed, stage.away, stage.hangs, stage.gone]
        for done in range(0, options.rounds, len(ways)):
            strikes = ways[: options.rounds - done]
            even = done // len(ways) % 2 == 0
            stage.block(
                strikes,
                early=False,
                round_s=_ROUND_S,
                patience_s=_PATIENCE_S,
                word_ms=500,
                tools=False,
                extensions=(LONG, SHORT) if even else (SHORT, LONG),
                last=len(strikes) == len(ways),
            )
        stage.tally.extra.setdefault("given_back", 0)
        return stage.tally
