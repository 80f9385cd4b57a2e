"""How closely a call's audio is looked at, both ways: frame by frame, or hardly at all.

    slot ──▶ engine      every frame, always
         ╲─▶ turns       what may change something; the rest they are told of in one go
    slot ◀── mouth ◀── engine
         ╰──▶ account    what went out of it, when somebody may want to know

Theory of operation. The media process delivers the caller's audio every 20 ms, silence included:
that is the only clock of the conversation. A delivery goes to the engine, then `Mouth` learns
what has gone out since, then the frames go through `Turns`, whose actions are carried out at once.

Mostly nothing changes: somebody speaks on, or nobody speaks. Then the conversation *rests*: a
delivery is no more than audio for the engine, and `Turns` makes up for it before it is told
anything else (`wake`). An engine that only passes frames on is given them *straight* by the slot,
with those of all other calls; then we learn of them when we are told anything else.

The agent's audio likewise: while more of an item flows, what was heard of it is asked for only when
it may have run dry, or somebody wants to know.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import bridge.engines.base as engines
from bridge.agent import TurnSettings
from bridge.dialog.turns import Action, State, Turns
from bridge.ears import Ear, Ears
from bridge.engines.base import Engine
from bridge.media.base import FRAME_MS, Slot, Up
from bridge.mouth import Mouth
from bridge.stopwatch import Stopwatch

DRY_MS, LOOK_MS = 40, 1000
"""An agent whose item isn't complete and that gives nothing for so long has paused; and so often at
least it is asked what was heard of it."""

Heard = tuple[Sequence[bool], bool, bool | None]
"""What a delivery holds: the first stage's decisions, whether they are of a voice, and of one that
is near (None: nobody can tell yet)."""


class Attention:
    """One call's."""

    def __init__(
        self,
        settings: TurnSettings,
        engine: Engine,
        slot: Slot,
        mouth: Mouth,
        turns: Turns,
        watch: Stopwatch,
        ears: Ears | None,
        over: Callable[[], bool],
        fault: Callable[[Exception], None],
        carry_out: Callable[[list[Action]], None],
        tend: Callable[[int], bool],
        fell_silent: Callable[[], None],
    ) -> None:
        """Nothing flows before `listen`.

        Args:
            settings: the agent's.
            engine: gets every frame.
            slot: where they come from.
            mouth: the agent's audio.
            turns: told of what may change something.
            watch: told when audio has come.
            ears: tells voices from noises; None: every noise may be one.
            over: whether the call has an outcome already.
            fault: ends the call, because of this.
            carry_out: does what the turns decide.
            tend: told the time after each close look: what else it brings; whether that is nothing
                for as long as nothing changes.
            fell_silent: the agent has, and the turns were told.
        """
        self._settings, self._engine, self._slot, self._mouth = settings, engine, slot, mouth
        self._turns, self._watch, self._ears = turns, watch, ears
        self._over, self._fault, self._carry_out = over, fault, carry_out
        self._tend, self._fell_silent = tend, fell_silent
        self.now_ms = 0
        """Audio time: end of the last frame that is known of."""
        self.news = True
        """Whether anything but audio has come since this was set to False."""
        self._hears: Callable[[int, engines.Pcm], None] = _deaf
        self._ear: Ear | None = None
        self._armed: bool | None = None  # as the slot was told
        # So far deliveries of which detectors and ear say the same as of the last change nothing;
        # or whatever they say; and whether they go past us.
        self._rests_ms, self._same = 0, _NOTHING
        self._whatever = self._straight = False
        # So far nobody waits to be told of what has gone out: when it is due, unless more audio of
        # the same item comes; when it is due then.
        self._account_ms, self._look_ms = 0.0, 0.0
        self._item, self._given_ms = 0, 0  # of which the engine gave audio last; when
        self._flowed = 0  # samples that we know have flowed past us
        mouth.flow.over = over

    def listen(self, guarded: Callable[..., None]) -> None:
        """The engine is ready: audio flows. `guarded` calls what it is given, and bears faults."""
        self._slot.tune(self._settings.sensitivity)
        self.prick_up()
        context: Any = contextvars.copy_context()
        # Media's reader doesn't run in the call's context, where the log finds the call's id.
        self._hears = partial(context.run, self._hear)
        self._slot.on_frames = partial(context.run, guarded, self._deliver)

    def close(self) -> None:
        """The call is over."""
        self._hears = _deaf
        if self._ear is not None:
            self._ear.close()

    # Up: a close look -----------------------------------------------------------------------------

    def _deliver(self, up: Up) -> None:
        begin_ms, speech = up.at_ms, up.speech
        end_ms = begin_ms + len(speech) * FRAME_MS
        self._learn()
        if begin_ms != self.now_ms:  # frames of a call that wants late packets dropped
            self._catch_up()
            self.now_ms = begin_ms
        if not self._mouth.held:  # what a phone on hold sends is not for the engine
            self._engine.hear(begin_ms, up.pcm)
        self._watch.arrived(end_ms)
        if begin_ms >= self._account_ms and not self._mouth.idle:
            self._account()
        if self._slot.tripped:
            self._tripped()
        ear = self._ear
        heard = (speech, True, True) if ear is None else (speech, ear.voice, ear.near)
        if end_ms <= self._rests_ms and (heard == self._same or self._is_same(heard)):
            self.now_ms = end_ms
            self._only_hear()
            return
        self._catch_up()
        self._frames(*heard)
        self.arm()
        if self._tend(self.now_ms):
            self._rest(heard)

    def _frames(self, speech: Sequence[bool], voiced: bool, near: bool | None) -> None:
        turns = self._turns
        for loud in speech:
            spoke = turns.caller_speaks
            if actions := turns.frame(self.now_ms, loud and voiced, near):
                self._carry_out(actions)
            if self._ear is not None and spoke and turns.caller_was_heard:
                self._ear.his_own()
            self.now_ms += FRAME_MS

    def arm(self) -> None:
        """Let media pause the agent by itself, or not, as the turns want it by now."""
        armed = self._turns.armed
        if armed is not self._armed:
            self._armed = armed
            self._slot.arm(armed)

    def _tripped(self) -> None:
        """Media has paused the agent by itself: from here on the pause is ours."""
        self.wake()
        self._carry_out(self._turns.tripped(self.now_ms))
        self._slot.deal()
        if self._turns.state is State.PAUSED and self._slot.is_echo():
            self._carry_out(self._turns.echo(self.now_ms))

    def prick_up(self) -> None:
        """Tell voices from noises from now on, if anything hangs on it."""
        idle = self._bot_hears and not getattr(self._engine, "told_of_speech", True)
        if self._ear is None and self._ears is not None and not (idle or self._over()):
            index, sensitivity = self._slot.index, self._settings.sensitivity
            self._ear = self._ears.open(index, sensitivity, hurries=not self._bot_hears)

    def onset(self) -> None:
        """The caller begins to speak."""
        self.prick_up()
        if self._ear is not None and self._bot_hears:
            self._ear.enough()

    @property
    def _bot_hears(self) -> bool:
        """Whether nothing hangs on what the rest of the caller's speech sounds like to us."""
        return getattr(self._engine, "autonomous", False) and self._settings.barge_in == "off"

    @property
    def rests(self) -> bool:
        """Whether nothing but audio has come since `news` was set to False, and none that would
        change anything."""
        return self._rests_ms > 0 and not self.news

    def look(self) -> None:
        """Learn of all that has come and gone by now."""
        self._update()
        if not self._mouth.idle:
            self._account()

    # Up: at rest ----------------------------------------------------------------------------------

    def _rest(self, heard: Heard) -> None:
        """Rest from here on, if more of what was heard last, or whatever comes, changes nothing for
        a while."""
        mouth = self._mouth
        if not (mouth.speaking or mouth.idle):  # it may fall silent and tell nothing
            return
        until_ms = self._turns.rests_until(heard[2]) if len(set(heard[0])) == 1 else 0
        whatever_ms = self._turns.indifferent_until()
        self._whatever = whatever_ms > self.now_ms  # sooner over, but no gap in his speech ends it
        self._rests_ms, self._same = whatever_ms if self._whatever else until_ms, heard
        self._only_hear()

    def _is_same(self, heard: Heard) -> bool:
        """Whether this is what the rest is for."""
        return self._whatever and heard[1:] == self._same[1:]

    def _only_hear(self) -> None:
        """Be given nothing but audio until something may change."""
        if self._rests_ms <= self.now_ms:
            return
        straight = None if self._mouth.held else getattr(self._engine, "straight", None)
        to_ms = self._rests_ms if self._mouth.idle else int(self._account_ms)
        self._straight = straight is not None
        speech = None if self._whatever else self._same[0][0]
        self._slot.rest(self._hears, self._rests_ms, speech, straight, to_ms, self._most_ms)

    def _hear(self, at_ms: int, pcm: engines.Pcm) -> None:
        """Frames that change nothing; guarded, without another step on the way of each frame."""
        if self._over():
            return
        try:
            self._learn()
            if at_ms != self.now_ms:
                self._catch_up()
            self.now_ms = end_ms = at_ms + len(pcm) * 1000 // self._slot.rate
            if not self._mouth.held:
                self._engine.hear(at_ms, pcm)
            self._watch.arrived(end_ms)
            if at_ms >= self._account_ms and not self._mouth.idle:
                self._account()
            if self._straight and self._rests_ms:
                self._only_hear()
        except Exception as error:  # noqa: BLE001 - the call's boundary, which logs it
            self._fault(error)

    def wake(self) -> None:
        """Something else than audio comes: look at everything again."""
        self._learn()
        self._mouth.flow.close()
        self.news = True
        self._account_ms = 0.0
        self._catch_up()

    def _catch_up(self) -> None:
        """The turns learn of the frames that they weren't told of, and the rest is over."""
        if self._rests_ms:
            self._update()
            if self._rests_ms:  # else what came of that has ended it already
                self._rests_ms, self._straight = 0, False
                self._slot.rest(self._hears, 0, False)

    def _update(self) -> None:
        """The turns learn of the frames that they weren't told of; the rest goes on."""
        self._learn()
        if not self._rests_ms:
            return
        told_ms = self._turns.now_ms
        if not self._whatever:
            self._turns.pass_over(self.now_ms)
        elif told_ms < self.now_ms:
            speech, straight = self._slot.spoken(told_ms, self.now_ms), self._straight
            self.now_ms, self._straight = told_ms, False  # what comes of it needs no more
            self._frames(speech, *self._same[1:])
            self._straight = straight and self._rests_ms > 0

    def _learn(self) -> None:
        """Frames have gone straight to the engine, and audio of it straight to the caller."""
        self._learn_flow()
        if self._straight and (now_ms := self._slot.straight_ms) > self.now_ms:
            self.now_ms = now_ms
            self._watch.arrived(now_ms)

    # Down -----------------------------------------------------------------------------------------

    def _learn_flow(self) -> None:
        """Audio has flowed past us: what went out of all that is asked for so much later."""
        flow = self._mouth.flow
        if samples := flow.total - self._flowed:
            self._flowed = flow.total
            at_ms, now_ms = self._slot.flowed_ms, self.now_ms
            self._given_ms = at_ms if at_ms > now_ms else now_ms  # noqa: FURB136 - max() is slow
            if self._account_ms:
                due_ms = self._account_ms + samples * 1000 / self._slot.rate
                self._account_ms = due_ms if due_ms < self._look_ms else self._look_ms  # noqa: FURB136

    def gave(self, item: int, samples: int) -> None:
        """The engine gave so much audio just now."""
        self._learn()
        self._given_ms = self.now_ms
        if item != self._item or not self._mouth.flow.item:
            self._item = item
            self._account_at(0.0)
        elif self._account_ms:
            due_ms = self._account_ms + samples * 1000 / self._slot.rate
            # Not by min(), which takes five times as long.
            self._account_at(due_ms if due_ms < self._look_ms else self._look_ms)  # noqa: FURB136

    def begins(self) -> None:
        """The agent begins to speak, where nothing of it was to be heard."""
        self._mouth.speaking = True
        self.wake()
        self._turns.agent_started()

    def _account(self) -> None:
        """What went out since the last time."""
        mouth, now_ms = self._mouth, self.now_ms
        mouth.account()
        rest_ms = mouth.rest_ms
        if rest_ms is not None and (mouth.playing or now_ms - self._given_ms < DRY_MS):
            self._look_ms = now_ms + LOOK_MS
            self._account_at(min(now_ms + rest_ms + DRY_MS, self._look_ms))
            return
        self._account_at(0.0)
        if mouth.speaking and not mouth.playing:
            mouth.speaking = False
            self.wake()
            self._carry_out(self._turns.agent_finished(now_ms))
            self._fell_silent()

    def _account_at(self, at_ms: float) -> None:
        """From there on (ms of audio) it matters what has gone out."""
        self._account_ms = at_ms
        if self._straight and not self._mouth.idle:
            self._slot.straight_on(int(at_ms), self._most_ms)

    @property
    def _most_ms(self) -> float:
        """So far frames go straight at most, if audio flows meanwhile."""
        return self._look_ms if self._account_ms and not self._mouth.idle else 0.0


def _deaf(at_ms: int, pcm: engines.Pcm) -> None:
    """Hears nothing: the call hasn't begun, or is over."""


_NOTHING: Heard = ((), False, None)
