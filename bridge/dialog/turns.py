"""Who has the floor: turns of the caller, speech of the agent, and barge-in that can be taken back.

Theory of operation. One `Turns` a call is fed with everything that bears on who speaks: a decision
a frame of the caller's audio, his words as they become known, and what became of the agent's audio.
Each input returns the actions that follow from it, in order; the call carries them out and passes
every one of them on to the engine.

    LISTENING    the floor is the caller's, whether he speaks or not
    THINKING     a turn is committed (or a reply begun), and no agent audio waits or plays
    SPEAKING     agent audio waits or plays
    PAUSED       the same, but the agent holds its breath: the caller made himself heard
    INTERRUPTED  the caller cut the agent short, and his turn isn't over

    input             LISTENING      THINKING          SPEAKING        PAUSED         INTERRUPTED
    ----------------  -------------  ----------------  --------------  -------------  -------------
    media's reflex    -              b)                AgentPaused     -              -
                                                       > PAUSED
    caller begins     SpeechStarted  SpeechStarted,    SpeechStarted,  SpeechStarted  -
                                     a) TurnWithdrawn  AgentPaused
                                        > LISTENING    > PAUSED
                                     b)
    first silence     TurnPausing, whatever the state
    words             they settle    -                 c) BargeIn      evidence       they settle
                      the final                        > INTERRUPTED                  the final
                      silence, or c)                                                  silence
    evidence for it   -              -                 -               BargeIn        -
                                                                       > INTERRUPTED
    evidence against  -              -                 -               AgentResumed   -
    it                                                                 > SPEAKING
    eager silence     TurnEager f)   -                 -               -              TurnEager f)
    ... speaks on     TurnWithdrawn  -                 -               -              TurnWithdrawn
    final silence     TurnCommitted  d)                d)              d)             TurnCommitted
                      > THINKING                                                      > THINKING
    agent audio       > SPEAKING     > SPEAKING        -               -              > SPEAKING
    agent finished    -              -                 e)              e) Ag.Resumed  -
    reply done        -              > LISTENING       noted           noted          noted
    digit             -              -                 BargeIn         BargeIn        -
                                                       > LISTENING     > LISTENING
    silence, long     NoInput        -                 -               -              -
    hold              what was said is committed, a pause is over, and nothing counts until it ends

a) Nothing of the answer has been played: the caller merely paused, and what he says now joins the
   same turn, which is withdrawn (although it was committed) and committed again under its own
   number.
b) Some of it has: a gap in the agent's speech, which is interrupted as in SPEAKING.
c) Only words of speech for which the agent was paused and went on again: they came late, or what
   had been taken for a sign of listening reads otherwise with more silence behind it. Where the
   agent is done meanwhile they are a turn like any other. After `LATE_MS` only what is surely meant
   counts, after `LATEST_MS` nothing does.
d) A turn that began before the agent spoke, or was spoken where it may not be interrupted, is kept
   and committed when the agent is done. Other speech against the agent is forgotten.
f) And another TurnPausing (or two), unless the words say that he is done: read again they may.
e) LISTENING if the reply is done, else THINKING; if the caller is speaking he has a turn like any
   other.

"The caller begins" after `min_speech_ms` of speech that the detectors believe (against the agent,
after `SURE_MS`); the reflex is quicker, believes more, and costs nothing, because the agent can go
on as if nothing had been. What is evidence that he means to interrupt, and what against it, says
`bridge.dialog.interruption`: how long he speaks, and what he has said when he stops.

With `barge_in` other than "auto", and while the greeting is guarded, a caller never interrupts by
speaking; an engine may (`interrupted`).

Where it may fail: no words come (`resume_ms` decides); the detector errs for a long time (music:
`min_speech_while_speaking_ms` at worst cuts the agent short, and the reflex rests after a false
alarm, longer each time); the process dies while paused (media's reflex lets go by itself, and
whoever takes the call up resumes).

Time is milliseconds of the caller's audio, which flows always (silence included), so that no clock
is needed and a test never sleeps.
"""

from __future__ import annotations

from bridge.dialog.actions import Action as Action
from bridge.dialog.actions import AgentPaused as AgentPaused
from bridge.dialog.actions import AgentResumed as AgentResumed
from bridge.dialog.actions import BargeIn as BargeIn
from bridge.dialog.actions import NoInput as NoInput
from bridge.dialog.actions import SpeechStarted as SpeechStarted
from bridge.dialog.actions import TurnCommitted as TurnCommitted
from bridge.dialog.actions import TurnEager as TurnEager
from bridge.dialog.actions import TurnPausing as TurnPausing
from bridge.dialog.actions import TurnWithdrawn as TurnWithdrawn
from bridge.dialog.backchannels import Weight, weigh
from bridge.dialog.endpointing import FRAME_MS, Edge, Phase
from bridge.dialog.floor import Floor
from bridge.dialog.floor import State as State
from bridge.dialog.interruption import Finding

SURE_MS = 60
"""Speech that pauses the agent while its reflex rests: the detectors are sure by then."""

LOOKS = 2
"""So often words that settle nothing are looked at again in one silence."""

LATE_MS, LATEST_MS = 1500, 4000
"""Words that come so late after the speech that they are of still interrupt, the second if they are
more than one unknown word: on a busy machine the recogniser has been 2.4 s late, and "stop" means
it then too."""


class Turns(Floor):
    """One call's floor, and what becomes of it."""

    # Inputs ---------------------------------------------------------------------------------------

    def frame(self, at_ms: int, speech: bool, near: bool | None = True) -> list[Action]:
        """Take the decision on the caller's frame that begins at `at_ms`.

        `near`: it is certainly he who speaks; False: somebody in the background, who never bears on
        the agent that speaks; None: nobody can tell yet, and so it can't interrupt either.
        """
        self._now_ms = at_ms + FRAME_MS
        self._speech, self._stirred = speech, False
        if self._held:
            self._quiet_ms = None
            return []
        if self._quiet_ms is None:
            self._quiet_ms = at_ms
        if self.state is State.SPEAKING and self.guard_until_ms is None:
            self.guard_until_ms = at_ms + self.settings.guard_greeting_ms
        if speech and self._agent_speaks:
            self._against.far = near is False
            speech = near is not False
        if speech:
            self._against.speech(at_ms)
        if near:
            self._against.certain = True
        actions = self._edge(self.endpoint.frame(at_ms, speech), at_ms)
        if self.state is State.PAUSED:
            return actions + self._judge(self._now_ms, speech)
        if speech and self._interruptible and self.endpoint.voiced_ms >= SURE_MS:
            # He speaks on into what the agent has just begun, or resumed; or the reflex rests.
            return actions + self._pause(at_ms, SURE_MS)
        if self.state is State.LISTENING and self.endpoint.phase is Phase.SILENT:
            return actions + (self._commit_kept() if self._kept else self._silence(at_ms))
        return actions

    def tripped(self, at_ms: int) -> list[Action]:
        """Media's reflex has paused the agent; if PAUSED isn't the state after that, it was in vain
        and the agent goes on.
        """
        self._stirred = True
        return self._pause(at_ms, 0) if self._interruptible else []

    def echo(self, at_ms: int) -> list[Action]:
        """What paused the agent was its own echo."""
        self._stirred = True
        return self._resume(at_ms) if self.state is State.PAUSED else []

    def words(
        self,
        text: str,
        until_ms: int,
        end_silence_ms: int,
        question: bool = False,
        understood: float | None = None,
        hum: bool = False,
    ) -> list[Action]:
        """What the caller said up to `until_ms` is known, "" if that is nothing.

        Words that don't hold all of his speech say nothing about the present silence.

        Args:
            text: since the beginning of his turn.
            until_ms: where in his audio it ends.
            end_silence_ms: so much silence behind it ends his turn.
            question: the agent is asking what a mere "yes" answers.
            understood: how well the engine could answer just this, 0 to 1; None: it doesn't say.
            hum: it sounds like "uh-huh", whatever words were made of it.
        """
        self._stirred = True
        actions: list[Action] = []
        whole = self.caller_speaks and until_ms >= self.endpoint.end_ms
        weight = weigh(text, self._language, question, understood, hum)
        if self.state is State.PAUSED and self.caller_speaks:
            self._against.words(weight, until_ms)
            actions = self._judge(self._now_ms, False)
        elif self._doubt and until_ms >= self._doubt[1]:
            actions = self._late_words(weight)
            self._doubt = None
        elif whole and self._now_ms - self.endpoint.end_ms >= 3 * FRAME_MS and self._unheeding:
            self._heeded = weight in (Weight.WORD, Weight.WORDS)
        if whole and self.caller_speaks:
            settled_ms = self.endpoint.settled_ms
            if settled_ms is not None and self._looked_again_ms == self.endpoint.end_ms:
                end_silence_ms = min(end_silence_ms, settled_ms)  # one good reading is enough
            self.endpoint.settle(end_silence_ms)
            if self.endpoint.eager:
                actions = actions + self._look_again()
        return actions

    def agent_started(self) -> None:
        """Agent audio was queued for playout, where none waited or played."""
        self._stirred = True
        self._reply_open = self._audible = self._waiting = True
        if self.state is not State.PAUSED:
            self.state = State.SPEAKING
            self._against.anew()

    def agent_finished(self, at_ms: int) -> list[Action]:
        """All agent audio that was queued has been played."""
        self._stirred = True
        self._waiting = False
        self._quiet_ms = at_ms
        if self.state not in (State.SPEAKING, State.PAUSED):
            return []
        return self._agent_ends(at_ms)

    def reply_done(self, at_ms: int) -> list[Action]:
        """The engine has said all that it has to say."""
        self._stirred = True
        self._reply_open = False
        if self._waiting or self.state not in (State.THINKING, State.PAUSED):
            return []
        self._quiet_ms = at_ms
        return self._agent_ends(at_ms)

    def interrupted(self) -> None:
        """The engine itself heard an interruption; the call drops what isn't played yet."""
        self._stirred = True
        if self.state in (State.SPEAKING, State.THINKING, State.PAUSED):
            self._take_floor()

    def digit(self, at_ms: int) -> list[Action]:
        """The caller pressed a key; told before the engine gets the digit itself."""
        self._stirred = True
        self._quiet_ms = at_ms
        self._no_input = 0
        speaking = self.state in (State.SPEAKING, State.PAUSED)
        if not speaking or self.settings.barge_in == "off":
            return []
        self._take_floor()
        return [BargeIn(at_ms, at_ms)]

    def hold(self, on: bool) -> list[Action]:
        """The caller's phone holds the call, or takes it back: nothing counts meanwhile."""
        self._stirred = True
        actions: list[Action] = []
        if self.state is State.PAUSED:
            actions += self._resume(self._now_ms)
        if self._counts and self.caller_speaks:
            if self.state in (State.LISTENING, State.INTERRUPTED):
                actions += self._commit(self.endpoint.end_ms)
            else:
                self._keep()
        self._counts = False
        self._doubt = None
        self._held = on
        self._quiet_ms = None
        self.endpoint.reset()
        return actions

    def somebody_else(self) -> None:
        """Whoever is there from now on hasn't said nothing yet."""
        self._no_input = 0

    # What the edges of speech mean ----------------------------------------------------------------

    def _edge(self, edge: Edge | None, at_ms: int) -> list[Action]:
        match edge:
            case Edge.ONSET:
                return self._onset(at_ms)
            case Edge.PAUSE:
                return [self._pausing()]
            case Edge.EAGER:
                return self._eager_end() + self._look_again()
            case Edge.RESUMED:
                return self._withdraw()
            case Edge.END:
                return self._end(at_ms)
            case _:
                return []

    def _onset(self, at_ms: int) -> list[Action]:
        actions: list[Action] = [SpeechStarted(self.endpoint.start_ms)]
        self._counts = self._heeded = False
        self._doubt = None
        if self.state is State.THINKING and not self._audible and self._bridge_owns:
            # Joins the turn that was committed: same number, same start.
            self.state = State.LISTENING
            self._counts = True
            self._reply_open = False
            return [*actions, TurnWithdrawn(self.turn)]
        if self._interruptible:
            return actions + self._pause(at_ms, 0)
        if self.state is State.LISTENING:
            self._begin_turn()
        return actions

    def _pausing(self) -> TurnPausing:
        endpoint = self.endpoint
        if self._counts:
            return TurnPausing(self.turn, self._start_ms, endpoint.end_ms)
        return TurnPausing(0, endpoint.start_ms, endpoint.end_ms)

    def _eager_end(self) -> list[Action]:
        floor = self.state in (State.LISTENING, State.INTERRUPTED)
        if not (floor and self._counts and self._bridge_owns):
            return []
        self._eager = True
        return [TurnEager(self.turn, self._start_ms, self.endpoint.end_ms)]

    def _look_again(self) -> list[Action]:
        """His words don't say that he is done: read in another way they may."""
        endpoint = self.endpoint
        settled_ms = endpoint.settled_ms
        unclear = settled_ms is not None and settled_ms > self.settings.complete_silence_ms
        if not (unclear and self._counts and self._bridge_owns):
            return []
        before = self._looks if self._looked_again_ms == endpoint.end_ms else 0
        if before >= LOOKS:
            return []
        self._looked_again_ms, self._looks = endpoint.end_ms, before + 1
        return [self._pausing()]

    def _end(self, at_ms: int) -> list[Action]:
        self._quiet_ms = at_ms
        if self.state in (State.LISTENING, State.INTERRUPTED):
            if not self._counts:
                return []
            return self._commit(self.endpoint.end_ms)
        least_ms = self.settings.min_speech_while_speaking_ms
        enough = self._heeded or self.endpoint.end_ms - self._against.start_ms >= least_ms
        withdrawn = self._withdraw()
        if self._counts or (enough and self._unheeding):
            self._keep()
        self._counts = False
        return withdrawn

    def _commit(self, end_ms: int) -> list[Action]:
        """The caller's turn ends."""
        self._counts = False
        self._no_input = 0
        if not self._bridge_owns:
            self.state = State.LISTENING
            return []
        self.state = State.THINKING
        self._eager = self._audible = False
        self._reply_open = True
        return [TurnCommitted(self.turn, self._start_ms, end_ms)]

    def _withdraw(self) -> list[Action]:
        if not self._eager:
            return []
        self._eager = False
        return [TurnWithdrawn(self.turn)]

    def _begin_turn(self) -> None:
        self._counts = True
        self.turn += 1
        self._start_ms = self._kept[0] if self._kept else self.endpoint.start_ms
        self._kept = None

    def _keep(self) -> None:
        """What was said is answered when the agent is done."""
        if not self._bridge_owns:
            return
        if self._counts:
            start_ms = self._start_ms
        else:
            start_ms = self._kept[0] if self._kept else self.endpoint.start_ms
        self._kept = (start_ms, self.endpoint.end_ms)

    def _commit_kept(self) -> list[Action]:
        assert self._kept
        (self._start_ms, end_ms), self._kept = self._kept, None
        self.turn += 1
        return self._commit(end_ms)

    # Against the agent ----------------------------------------------------------------------------

    def _pause(self, at_ms: int, after_ms: int) -> list[Action]:
        """The agent holds its breath, if the caller has spoken for so long."""
        against = self._against
        if against.began and (against.voiced_ms < after_ms or against.unlikely):
            return []
        self.state = State.PAUSED
        self._paused_ms = at_ms
        self._doubt = None
        return [AgentPaused(at_ms)]

    def _judge(self, now_ms: int, speech: bool) -> list[Action]:
        """The agent is paused: is it interrupted, or was it nothing?"""
        match self._against.find(now_ms, speech, self._paused_ms, self.endpoint):
            case Finding.INTERRUPTS:
                return self._confirm(now_ms)
            case Finding.NOTHING | Finding.WORDLESS as found:
                if found is Finding.NOTHING:
                    self._against.no_alarm()
                if self._against.certain:
                    self._doubt = (self.endpoint.start_ms, self.endpoint.end_ms)
                return self._resume(now_ms)
            case Finding.NOISE:
                self._against.false_alarm(now_ms)
                return self._resume(now_ms, noise=True)
            case _:
                return []

    def _late_words(self, weight: Weight) -> list[Action]:
        """They are of speech after which the agent went on."""
        assert self._doubt
        start_ms, end_ms = self._doubt
        most_ms = {Weight.WORD: LATE_MS, Weight.WORDS: LATEST_MS}.get(weight, -1)
        if self._now_ms - end_ms > most_ms:
            return []
        if self._interruptible:
            return self._confirm(self._now_ms)
        if self.state is not State.LISTENING or self.caller_speaks or not self._bridge_owns:
            return []
        self.turn += 1  # the agent is done: nobody is cut short
        self._start_ms = start_ms
        return self._commit(end_ms)

    def _resume(self, at_ms: int, noise: bool = False) -> list[Action]:
        """It was nothing: the agent goes on."""
        if self._waiting:
            self.state = State.SPEAKING
        else:
            self.state = State.THINKING if self._reply_open else State.LISTENING
        if noise:
            self._against.goes_on()
        else:
            self._against.anew()
        return [AgentResumed(at_ms)]

    def _confirm(self, at_ms: int) -> list[Action]:
        """It is an interruption."""
        self._against.no_alarm()
        start_ms, end_ms = self._doubt or (self.endpoint.start_ms, self.endpoint.end_ms)
        self._take_floor()
        actions: list[Action] = [BargeIn(start_ms, at_ms)]
        if not self.caller_speaks:  # words that came when he had finished
            self.turn += 1
            self._start_ms = start_ms
            return actions + self._commit(end_ms)
        if self.endpoint.eager:
            actions += self._eager_end()
        return actions

    def _take_floor(self) -> None:
        self._reply_open = self._waiting = False
        self._kept = self._doubt = None
        if self.caller_speaks:
            self.state = State.INTERRUPTED
            if not self._counts:
                self._begin_turn()
        else:
            self.state = State.LISTENING

    def _agent_ends(self, at_ms: int) -> list[Action]:
        """Nothing waits to be played (any more)."""
        paused = self.state is State.PAUSED
        if paused and self._reply_open:
            return []  # what comes next waits with the rest
        self.state = State.THINKING if self._reply_open else State.LISTENING
        if self.caller_speaks and not self._counts:
            self._begin_turn()
            self.state = State.LISTENING
        return [AgentResumed(at_ms)] if paused else []

    def _silence(self, at_ms: int) -> list[Action]:
        assert self._quiet_ms is not None
        if at_ms + FRAME_MS - self._quiet_ms < self.settings.no_input_ms:
            return []
        self._quiet_ms = at_ms + FRAME_MS
        self._no_input += 1
        return [NoInput(self._no_input, last=self._no_input > self.settings.no_input_prompts)]
