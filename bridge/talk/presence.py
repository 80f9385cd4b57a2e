"""Who is there: what the caller's phone does besides carrying his voice, and who looks after him.

Theory of operation. The caller is with the agent unless his phone *holds* the call, or he is
*apart*: out of hearing, because somebody else is rung for him, or talks to the agent in his place.
Then his audio isn't for the engine, and the agent waits. A caller who says nothing for too long is
given up: the engine may say good-bye, then the call is over. Whoever looks after the call mutes the
agent, or has it say something.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.agent import TurnSettings
from bridge.dialog.turns import Action, Turns
from bridge.engines.base import Digit, Engine, Speak, ToolCall
from bridge.errors import ConfigError
from bridge.mouth import Mouth
from bridge.talk.answer import Answer
from bridge.talk.attention import Attention
from bridge.tools import Outcome, Tools
from bridge.transcript import Transcript


class Presence:
    """One call's."""

    def __init__(
        self,
        settings: TurnSettings,
        engine: Engine,
        mouth: Mouth,
        turns: Turns,
        attention: Attention,
        answer: Answer,
        tools: Tools,
        transcript: Transcript,
        carry_out: Callable[[list[Action]], None],
        note: Callable[[], None],
        end: Callable[[Outcome], None],
    ) -> None:
        """Nobody is missing yet.

        Args:
            settings: the agent's.
            engine: told of keys, and what to say.
            mouth: silent while the caller is on hold or apart.
            turns: told so, and of keys.
            attention: woken before anything happens here.
            answer: what a key or somebody who looks after the call cuts short.
            tools: hang up; know whom the agent talks to.
            transcript: where it is written down.
            carry_out: does what the turns decide.
            note: writes down how far the call has got.
            end: ends the call.
        """
        self._settings, self._engine, self._mouth, self._turns = settings, engine, mouth, turns
        self._attention, self._answer, self._tools = attention, answer, tools
        self._transcript, self._carry_out, self._note = transcript, carry_out, note
        self._end = end
        self.on_hold = False
        """His phone holds the call."""
        self._apart = False
        self._given_up = False  # he has said nothing for the last time

    def take_up(self, *, on_hold: bool) -> None:
        """Go on where another process was."""
        self.on_hold = on_hold
        self._tools.transfer.took_up()
        self._hold()

    # The caller -----------------------------------------------------------------------------------

    def digit(self, digit: str) -> None:
        """He pressed a key."""
        self._attention.wake()
        self._transcript.say("dtmf", digit)
        if self._apart or self._tools.transfer.talks_to:
            return  # the agent isn't with him
        self._given_up = False
        self._answer.due(self._attention.now_ms)
        self._carry_out(self._turns.digit(self._attention.now_ms))
        if not (self._answer.replying or self._tools.open()):
            self._tools.over()
        self._note()
        self._engine.notify(Digit(digit))

    def hold(self, on: bool) -> None:
        """His phone holds the call, or takes it back."""
        self._attention.wake()
        self._transcript.say("event", "hold" if on else "resume")
        self.on_hold = on
        self._hold()
        self._note()

    def set_apart(self, on: bool) -> None:
        """He is out of hearing, because somebody else is rung; or he, or that one, is there."""
        self._attention.wake()
        self._apart, self._given_up = on, False
        self._turns.somebody_else()
        self._hold()
        self._note()

    def _hold(self) -> None:
        on = self.on_hold or self._apart
        if on is self._mouth.held:
            return
        self._mouth.hold(on)
        self._carry_out(self._turns.hold(on))
        self._attention.arm()

    # Whether he says anything ---------------------------------------------------------------------

    def spoke(self) -> None:
        """He did."""
        self._given_up = False

    def no_input(self) -> None:
        """He has said nothing for the last time."""
        if self._tools.transfer.talks_to:  # not he, but whom we rang: the caller is taken back
            self._hang_up()
        elif self._settings.after_no_input == "dialplan":
            self._end(Outcome("no-input", "the caller said nothing"))
        elif self._given_up:  # the engine has nothing to say to that
            self._hang_up()
        self._given_up = True

    def replied(self) -> None:
        """The agent has said all that it had to say."""
        if self._given_up:
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._tools.open():
            self._tools.add(ToolCall("no-input", "hang_up"), self._turns.turn)
            self._answer.next_tool()

    # Somebody who looks after the call ------------------------------------------------------------

    def mute(self, on: bool) -> None:
        """Nothing of the agent is heard from now on, but it goes on listening; or it is again."""
        if on is self._answer.muted:
            return
        self._attention.wake()
        self._transcript.note("agent muted" if on else "agent unmuted")
        self._answer.muted = on
        if on:
            self._answer.cut()
        self._note()

    def say(self, text: str) -> bool:
        """Have the agent say just this, now. False: its engine can't be told what to say.

        Raises:
            ConfigError: it is muted, or not with the caller.
        """
        if self._answer.muted:
            raise ConfigError("the agent is muted: unmute it first")
        if talks_to := self._tools.transfer.talks_to:
            raise ConfigError(f"the agent talks to {talks_to} now, for the caller, who waits")
        if self._apart:
            raise ConfigError("the caller hears ringing or music now: he is being put through")
        if not getattr(self._engine, "speaks", False):
            return False
        self._attention.wake()
        self._answer.cut()
        self._transcript.say("event", f"told to say: {text}")
        self._given_up = False
        self._engine.notify(Speak(text))
        self._answer.reply(True)
        return True
