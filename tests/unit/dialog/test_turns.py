import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agent import TurnSettings
from bridge.dialog.turns import (
    AgentPaused,
    AgentResumed,
    BargeIn,
    NoInput,
    SpeechStarted,
    State,
    TurnCommitted,
    TurnEager,
    TurnPausing,
    Turns,
    TurnWithdrawn,
)

SETTINGS = TurnSettings(
    min_speech_ms=100,
    min_speech_while_speaking_ms=240,
    eager_silence_ms=200,
    end_silence_ms=600,
    resume_ms=400,
    no_input_ms=8000,
)


class Floor:
    """Drives `Turns` by the audio clock and gathers actions."""

    def __init__(self, owner="bridge", **changes):
        settings = TurnSettings(**{**SETTINGS.__dict__, **changes})
        self.turns = Turns(settings, owner)
        self.at_ms = 0
        self.near = True
        self.pauses = []  # the hints, which bear on nothing

    def speech(self, ms):
        return self._frames(ms, True)

    def silence(self, ms):
        return self._frames(ms, False, self.near)  # the ear's opinion of what it heard last

    def far(self, ms):
        return self._frames(ms, True, near=False)

    def doubtful(self, ms):
        return self._frames(ms, True, near=None)

    def _frames(self, ms, speech, near=True):
        self.near = near
        actions = []
        for _ in range(ms // 20):
            actions += self.turns.frame(self.at_ms, speech, near)
            self.at_ms += 20
        self.pauses += [a for a in actions if isinstance(a, TurnPausing)]
        return [a for a in actions if not isinstance(a, TurnPausing)]

    @property
    def state(self):
        return self.turns.state

    def agent(self, *what):
        """The agent's side: "started", "finished", "done"."""
        actions = []
        for word in what:
            if word == "started":
                self.turns.agent_started()
            elif word == "finished":
                actions += self.turns.agent_finished(self.at_ms)
            else:
                actions += self.turns.reply_done(self.at_ms)
        return actions


def in_state(state, **changes):
    """A floor in that state."""
    floor = Floor(**changes)
    if state is not State.LISTENING:
        floor.speech(400)
        floor.silence(600)
    if state in (State.SPEAKING, State.PAUSED, State.INTERRUPTED):
        floor.agent("started")
    if state is State.PAUSED:
        assert floor.turns.tripped(floor.at_ms) == [AgentPaused(floor.at_ms)]
    if state is State.INTERRUPTED:
        floor.speech(240)
    assert floor.state is state
    return floor


# The table, cell by cell -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kinds", "after"),
    [
        (State.LISTENING, [SpeechStarted], State.LISTENING),
        (State.THINKING, [SpeechStarted, TurnWithdrawn], State.LISTENING),
        (State.SPEAKING, [AgentPaused, SpeechStarted], State.PAUSED),
        (State.PAUSED, [SpeechStarted], State.PAUSED),
        (State.INTERRUPTED, [], State.INTERRUPTED),
    ],
)
def test_caller_begins(state, kinds, after):
    floor = in_state(state)
    assert [type(a) for a in floor.speech(100)] == kinds
    assert floor.state is after


def test_caller_has_spoken_long_enough_against_the_agent():
    floor = in_state(State.SPEAKING)
    began = floor.at_ms
    assert floor.speech(220) == [AgentPaused(began + 40), SpeechStarted(began)]
    assert floor.speech(20) == [BargeIn(began, began + 240)]
    assert floor.state is State.INTERRUPTED


@pytest.mark.parametrize("state", [State.LISTENING, State.INTERRUPTED])
def test_silences_of_a_turn(state):
    floor = in_state(state)
    floor.speech(300)
    end, turn = floor.at_ms, floor.turns.turn
    start = end - (540 if state is State.INTERRUPTED else 300)
    assert floor.silence(200) == [TurnEager(turn, start, end)]
    assert floor.speech(60) == [TurnWithdrawn(turn)]
    assert floor.silence(200) == [TurnEager(turn, start, end + 260)]
    assert floor.silence(400) == [TurnCommitted(turn, start, end + 260)]
    assert floor.state is State.THINKING


def test_final_silence_after_a_short_word_against_the_agent_is_forgotten():
    floor = in_state(State.SPEAKING)
    floor.speech(160)
    assert floor.state is State.PAUSED
    end = floor.at_ms
    assert floor.silence(3000) == [AgentResumed(end + 400)]
    assert (floor.state, floor.turns.turn) == (State.SPEAKING, 1)


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.LISTENING, State.SPEAKING),
        (State.THINKING, State.SPEAKING),
        (State.SPEAKING, State.SPEAKING),
        (State.PAUSED, State.PAUSED),
        (State.INTERRUPTED, State.SPEAKING),
    ],
)
def test_agent_audio(state, after):
    floor = in_state(state)
    floor.agent("started")
    assert floor.state is after


@pytest.mark.parametrize(
    ("state", "words", "after"),
    [
        (State.LISTENING, ["finished"], State.LISTENING),
        (State.THINKING, ["finished"], State.THINKING),
        (State.SPEAKING, ["finished"], State.THINKING),
        (State.SPEAKING, ["finished", "done"], State.LISTENING),
        (State.SPEAKING, ["done"], State.SPEAKING),
        (State.SPEAKING, ["done", "finished"], State.LISTENING),
        (State.PAUSED, ["finished"], State.PAUSED),
        (State.PAUSED, ["done"], State.PAUSED),
        (State.PAUSED, ["finished", "done"], State.LISTENING),
        (State.PAUSED, ["done", "finished"], State.LISTENING),
        (State.INTERRUPTED, ["finished"], State.INTERRUPTED),
        (State.LISTENING, ["done"], State.LISTENING),
        (State.THINKING, ["done"], State.LISTENING),
        (State.INTERRUPTED, ["done"], State.INTERRUPTED),
        # A greeting, and a second sentence that comes late.
        (State.LISTENING, ["started", "finished", "started", "done", "finished"], State.LISTENING),
    ],
)
def test_agent_finished_and_reply_done(state, words, after):
    floor = in_state(state)
    floor.agent(*words)
    assert floor.state is after


@pytest.mark.parametrize(
    ("state", "kinds", "after"),
    [
        (State.LISTENING, [], State.LISTENING),
        (State.THINKING, [], State.THINKING),
        (State.SPEAKING, [BargeIn], State.LISTENING),
        (State.PAUSED, [BargeIn], State.LISTENING),
        (State.INTERRUPTED, [], State.INTERRUPTED),
    ],
)
def test_digit(state, kinds, after):
    floor = in_state(state)
    assert [type(a) for a in floor.turns.digit(floor.at_ms)] == kinds
    assert floor.state is after


@pytest.mark.parametrize(
    ("state", "count"),
    [
        (State.LISTENING, 2),
        (State.THINKING, 0),
        (State.SPEAKING, 0),
    ],
)
def test_long_silence(state, count):
    floor = in_state(state)
    assert floor.silence(16_000) == [NoInput(n + 1) for n in range(count)]


# What the table's notes say ----------------------------------------------------------------------


def test_a_pause_of_the_caller_joins_the_turn():
    floor = Floor()
    floor.speech(400)
    assert floor.silence(600)[-1] == TurnCommitted(1, 0, 400)
    assert floor.speech(300) == [SpeechStarted(1000), TurnWithdrawn(1)]
    assert floor.silence(600) == [TurnEager(1, 0, 1300), TurnCommitted(1, 0, 1300)]


def test_a_gap_of_the_agent_can_be_interrupted():
    floor = in_state(State.SPEAKING)
    floor.agent("finished")
    assert floor.state is State.THINKING
    began = floor.at_ms
    assert floor.speech(100) == [AgentPaused(began + 40), SpeechStarted(began)]
    floor.agent("started")
    assert floor.state is State.PAUSED, "what comes now waits"
    assert floor.speech(140) == [BargeIn(began, began + 240)]
    assert floor.silence(600)[-1] == TurnCommitted(2, began, began + 240)


def test_a_late_reply_done_of_a_dropped_reply_changes_nothing():
    floor = in_state(State.INTERRUPTED)
    floor.agent("done", "finished")
    assert floor.state is State.INTERRUPTED
    assert isinstance(floor.silence(600)[-1], TurnCommitted)


def test_speech_that_outlasts_the_agent_is_a_turn():
    floor = in_state(State.SPEAKING, barge_in="off")
    began = floor.at_ms
    floor.speech(300)
    floor.agent("done", "finished")
    floor.speech(300)
    assert floor.silence(600)[-1] == TurnCommitted(2, began, began + 600)


def test_the_agent_that_falls_into_speech_is_interrupted_by_going_on():
    floor = Floor()
    floor.speech(500)
    floor.agent("started")
    assert floor.speech(220) == [AgentPaused(540)]
    assert floor.speech(20) == [BargeIn(0, 740)]
    assert floor.silence(600)[-1] == TurnCommitted(1, 0, 740)


def test_each_word_against_the_agent_counts_for_itself():
    floor = Floor()
    floor.speech(500)
    floor.agent("started")
    floor.speech(100)
    floor.silence(600)
    began = floor.at_ms
    paused = AgentPaused(began + 40)
    assert floor.speech(240) == [paused, SpeechStarted(began), BargeIn(began, began + 240)]


def test_a_pause_joins_the_turn_also_after_an_answer():
    floor = in_state(State.SPEAKING)
    floor.agent("done", "finished")
    floor.speech(300)
    floor.silence(600)
    assert floor.turns.turn == 2
    assert [type(a) for a in floor.speech(100)] == [SpeechStarted, TurnWithdrawn]


def test_what_was_asked_just_before_a_hold_is_answered_after_it():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    assert floor.turns.hold(True) == [TurnCommitted(1, 0, 300)]
    floor.turns.hold(False)
    assert floor.silence(1000) == []
    assert not floor.turns.caller_speaks


def test_a_hold_ends_a_pause():
    floor = in_state(State.PAUSED)
    assert floor.turns.hold(True) == [AgentResumed(floor.at_ms)]
    assert floor.state is State.SPEAKING


def test_the_agent_that_falls_into_the_end_of_a_turn_takes_it_back():
    floor = Floor()
    floor.speech(500)
    assert floor.silence(200) == [TurnEager(1, 0, 500)]
    floor.agent("started")
    assert floor.silence(400) == [TurnWithdrawn(1)]
    assert floor.state is State.SPEAKING


@pytest.mark.parametrize("mode", ["off", "engine"])
def test_without_automatic_barge_in_speech_never_interrupts(mode):
    floor = in_state(State.SPEAKING, barge_in=mode)
    began = floor.at_ms
    assert [type(a) for a in floor.speech(2000)] == [SpeechStarted]
    assert floor.silence(1000) == []
    assert floor.state is State.SPEAKING
    assert floor.turns.tripped(floor.at_ms) == []
    floor.agent("done", "finished")
    assert floor.silence(20) == [TurnCommitted(2, began, began + 2000)], "but is answered after"


def test_a_digit_does_not_interrupt_where_barge_in_is_off():
    floor = in_state(State.SPEAKING, barge_in="off")
    assert floor.turns.digit(floor.at_ms) == []
    assert floor.state is State.SPEAKING


def test_an_engine_that_interrupts_itself_leaves_the_turn_to_the_caller():
    floor = in_state(State.SPEAKING, barge_in="engine")
    began = floor.at_ms
    floor.speech(160)
    floor.turns.interrupted()
    assert floor.state is State.INTERRUPTED
    assert floor.silence(600)[-1] == TurnCommitted(2, began, began + 160)


def test_an_engine_that_owns_turns_is_told_none():
    floor = Floor(owner="engine")
    assert floor.speech(400) == [SpeechStarted(0)]
    assert floor.silence(1000) == []
    floor.agent("started")
    began = floor.at_ms
    paused = AgentPaused(began + 40)
    assert floor.speech(400) == [paused, SpeechStarted(began), BargeIn(began, began + 240)]
    assert floor.silence(1000) == []
    assert floor.state is State.LISTENING


def test_eager_can_be_switched_off():
    floor = Floor(eager_silence_ms=0)
    floor.speech(300)
    assert floor.silence(600) == [TurnCommitted(1, 0, 300)]


def test_no_input_counts_from_the_end_of_the_agents_speech_and_starts_anew():
    floor = Floor()
    floor.silence(5000)
    floor.agent("started")
    floor.silence(5000)
    floor.agent("done", "finished")
    assert floor.silence(7980) == []
    assert floor.silence(20) == [NoInput(1)]
    floor.agent("started", "done", "finished")
    assert floor.silence(8000) == [NoInput(2)]
    floor.turns.digit(floor.at_ms)
    assert floor.silence(8000) == [NoInput(1)]
    floor.speech(300)
    floor.silence(600)
    floor.agent("done")
    assert floor.silence(8000) == [NoInput(1)]


def test_nothing_counts_on_hold():
    floor = in_state(State.INTERRUPTED)
    assert floor.silence(200) != []
    floor.turns.interrupted()
    [committed] = floor.turns.hold(True)
    assert committed.turn == 2
    floor.agent("done")
    assert floor.speech(3000) == []  # music
    assert floor.silence(20_000) == []
    assert floor.turns.hold(False) == []
    assert floor.state is State.LISTENING
    assert floor.silence(7980) == []
    assert floor.silence(20) == [NoInput(1)]


# Whatever happens --------------------------------------------------------------------------

INPUTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["speech", "silence"]), st.integers(1, 60)),
        st.tuples(
            st.sampled_from(
                [
                    "started",
                    "finished",
                    "done",
                    "digit",
                    "interrupted",
                    "hold",
                    "tripped",
                    "echo",
                    "stop",
                    "uh-huh",
                ]
            ),
            st.just(0),
        ),
    ),
    max_size=60,
)


class Checker:
    """Holds what must be true of any sequence of actions."""

    def __init__(self, mode, owner):
        self.floor, self.mode, self.owner = Floor(owner, barge_in=mode), mode, owner
        self.held, self.eager, self.committed, self.last = False, None, None, 0
        self.paused = False

    def give(self, name, frames):
        if frames:
            return getattr(self.floor, name)(frames * 20)
        if name == "digit":
            return self.floor.turns.digit(self.floor.at_ms)
        if name == "hold":
            self.held = not self.held
            return self.floor.turns.hold(self.held)
        if name in ("tripped", "echo"):
            return getattr(self.floor.turns, name)(self.floor.at_ms)
        if name in ("stop", "uh-huh"):
            return self.floor.turns.words(name, self.floor.at_ms, 400)
        if name == "interrupted":
            self.floor.turns.interrupted()
            self.paused = False
            return []
        return self.floor.agent(name)

    def check(self, action, before):
        match action:
            case TurnEager():
                assert self.owner == "bridge"
                assert self.eager is None
                assert action.turn >= self.last
                self.eager, self.last = action, action.turn
            case TurnWithdrawn(turn=turn):
                assert turn in (self.eager and self.eager.turn, self.committed)
                self.eager = self.committed = None
            case TurnCommitted(turn=turn, start_ms=start_ms, end_ms=end_ms):
                assert self.owner == "bridge"
                assert 0 <= start_ms < end_ms <= self.floor.at_ms
                assert self.eager in (None, TurnEager(turn, start_ms, end_ms))
                assert turn >= self.last
                self.eager, self.committed, self.last = None, turn, turn
            case AgentPaused():
                assert self.mode == "auto"
                assert not self.paused
                self.paused = True
            case AgentResumed():
                assert self.paused
                self.paused = False
            case BargeIn(start_ms=start_ms, at_ms=at_ms):
                self.paused = False
                assert self.mode == "auto" or (self.mode == "engine" and before is State.SPEAKING)
                assert start_ms <= at_ms <= self.floor.at_ms


@given(INPUTS, st.sampled_from(["auto", "engine", "off"]), st.sampled_from(["bridge", "engine"]))
def test_turns_are_well_formed_whatever_happens(inputs, mode, owner):
    checker = Checker(mode, owner)
    for name, frames in inputs:
        before = checker.floor.state
        for action in checker.give(name, frames):
            checker.check(action, before)
        assert checker.paused == (checker.floor.state is State.PAUSED)
        if checker.floor.state is State.INTERRUPTED:
            assert checker.floor.turns.caller_speaks


def test_a_pause_is_told_before_anything_is_decided():
    floor = Floor()
    floor.silence(400)
    floor.speech(300)
    floor.silence(60)
    assert floor.pauses == []
    floor.silence(20)
    assert floor.pauses == [TurnPausing(1, 400, 700)]
    floor.silence(60)
    floor.speech(100)
    floor.silence(80)
    assert floor.pauses[1:] == [TurnPausing(1, 400, 940)]


def test_known_words_settle_how_long_the_silence_lasts():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how late", 400, 280)
    assert floor.silence(160) == [TurnEager(1, 0, 300)]
    assert floor.silence(20) == [TurnCommitted(1, 0, 300)]


def test_words_that_do_not_settle_it_are_looked_at_again_twice_a_silence():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how lay", 400, 600)
    floor.silence(100)
    assert floor.pauses == [TurnPausing(1, 0, 300), TurnPausing(1, 0, 300)]
    assert floor.turns.words("how late", 500, 600) == [TurnPausing(1, 0, 300)]
    assert floor.turns.words("how late", 500, 600) == []
    assert floor.silence(380) == []
    floor.speech(100)
    floor.silence(220)
    assert len(floor.pauses) == 3  # no words are known of the new silence
    assert floor.turns.words("how late are", 1200, 600) == [TurnPausing(1, 0, 980)]


def test_another_reading_makes_no_silence_longer():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how lay", 400, 600)
    floor.silence(120)
    floor.turns.words("how lay and", 500, 1000)
    assert floor.silence(360) == []
    assert floor.silence(20) == [TurnCommitted(1, 0, 300)]


def test_words_that_settle_it_are_not_looked_at_again():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how late", 400, floor.turns.settings.complete_silence_ms)
    floor.silence(120)
    assert floor.pauses == [TurnPausing(1, 0, 300)]


def test_words_that_lack_the_end_settle_nothing():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how", 280, 280)
    floor.silence(480)
    assert floor.silence(20) == [TurnCommitted(1, 0, 300)]


def test_what_words_settled_is_over_when_the_caller_speaks_on():
    floor = Floor()
    floor.speech(300)
    floor.silence(100)
    floor.turns.words("how late", 400, 280)
    floor.speech(100)
    floor.silence(480)
    assert floor.state is State.LISTENING
    floor.silence(120)
    assert floor.state is State.THINKING


# A barge-in that can be taken back --------------------------------------------------------------


def paused(speech_ms, **changes):
    """The agent is paused by the reflex, and the caller has spoken and is silent for 80 ms."""
    floor = in_state(State.SPEAKING, **changes)
    floor.began = floor.at_ms
    floor.speech(40)
    assert floor.turns.tripped(floor.at_ms) == [AgentPaused(floor.at_ms)]
    floor.speech(speech_ms - 40)
    floor.end = floor.at_ms
    floor.silence(80)
    assert floor.state is State.PAUSED
    return floor


def say(floor, text, **changes):
    return floor.turns.words(text, floor.end, 300, **changes)


@pytest.mark.parametrize("text", ["Uh-huh.", "yeah, okay", ""])
def test_what_takes_nobodys_floor_lets_the_agent_go_on(text):
    floor = paused(200)
    assert say(floor, text) == [], "he may go on: a first syllable reads like a hum"
    assert floor.silence(120) == [AgentResumed(floor.end + 200)]
    assert floor.state is State.SPEAKING
    assert floor.silence(2000) == []
    assert floor.turns.turn == 1


@pytest.mark.parametrize("text", ["Stop.", "no", "yeah but wait"])
def test_a_word_that_counts_interrupts_however_short_it_was(text):
    floor = paused(200)
    assert say(floor, text) == [BargeIn(floor.began, floor.at_ms)]
    assert floor.state is State.INTERRUPTED
    kinds = [type(action) for action in floor.silence(600)]
    assert kinds == [TurnEager, TurnCommitted]
    assert floor.turns.turn == 2


def test_yes_is_an_answer_to_a_question():
    floor = paused(200)
    floor.silence(120)
    barge_in = BargeIn(floor.began, floor.at_ms)
    assert say(floor, "Yes.", question=True)[0] == barge_in


def test_words_after_the_eager_silence_make_up_for_it():
    floor = paused(200)
    floor.silence(200)
    turn = TurnEager(2, floor.began, floor.end)
    again = TurnPausing(2, floor.began, floor.end)
    assert say(floor, "Stop.") == [BargeIn(floor.began, floor.at_ms), turn, again]


def test_while_he_speaks_on_words_count_from_half_a_second_of_them():
    floor = in_state(State.PAUSED, min_speech_while_speaking_ms=800)
    floor.speech(460)
    assert floor.turns.words("I want", floor.at_ms, 300) == []
    floor.speech(20)
    assert floor.turns.words("I", floor.at_ms, 300) == []
    assert floor.turns.words("uh huh", floor.at_ms, 300) == []
    assert [type(a) for a in floor.turns.words("I want", floor.at_ms, 300)] == [BargeIn]


def test_the_next_look_may_read_otherwise_what_was_taken_for_a_sign_of_listening():
    for text, cut in (("Out.", True), ("Oh,", False)):
        floor = paused(200)
        say(floor, "Oh.")
        assert [type(a) for a in floor.silence(120)] == [AgentResumed]
        floor.silence(100)
        taken = floor.turns.words(text, floor.at_ms, 300)
        assert [type(a) for a in taken][:1] == ([BargeIn] if cut else [])
        again = floor.turns.words("Stop.", floor.at_ms, 300)
        assert again == [], "only the next"


def test_one_word_counts_when_he_has_left_it_standing():
    floor = paused(200, min_speech_while_speaking_ms=600)
    assert say(floor, "Parking.") == []
    assert floor.silence(100) == []
    assert floor.silence(20)[0] == BargeIn(floor.began, floor.end + 200)


def test_one_word_left_standing_counts_as_soon_as_length_alone_would_have():
    floor = paused(200, min_speech_while_speaking_ms=300)
    assert say(floor, "Parking.") == []
    assert floor.silence(20)[0] == BargeIn(floor.began, floor.began + 300)


def test_a_backchannel_with_which_a_sentence_begins_refutes_nothing():
    floor = paused(200, min_speech_while_speaking_ms=600)
    say(floor, "Okay,")
    assert floor.speech(300) == []
    assert floor.speech(20) == [BargeIn(floor.began, floor.began + 600)]


def test_long_backchannels_have_half_as_long_again_while_their_words_are_fresh():
    floor = paused(200, min_speech_while_speaking_ms=600)
    say(floor, "Okay,")
    floor.speech(260)
    floor.turns.words("Okay, I see", floor.at_ms, 300)
    assert floor.speech(300) == []
    assert floor.speech(20) == [BargeIn(floor.began, floor.began + 860)], "the words are old"


def test_what_is_no_certain_voice_never_interrupts():
    floor = in_state(State.SPEAKING)
    floor.doubtful(160)
    assert floor.state is State.PAUSED
    assert floor.turns.words("Stop.", floor.at_ms, 700) == []
    end = floor.at_ms
    assert floor.silence(1000) == [AgentResumed(end + 400)]
    floor.silence(1000)
    assert floor.state is State.SPEAKING
    assert floor.turns.words("Stop.", floor.at_ms, 700) == [], "nor by words that come late"


def test_what_goes_on_without_becoming_a_certain_voice_is_a_noise():
    floor = in_state(State.SPEAKING)
    began = floor.at_ms
    actions = floor.doubtful(2000)
    assert [a for a in actions if isinstance(a, AgentResumed)] == [AgentResumed(began + 240)]
    assert len([a for a in actions if isinstance(a, AgentPaused)]) == 1
    assert floor.turns.tripped(floor.at_ms) == [], "the reflex may not hold it up either"
    assert [type(a) for a in floor.speech(20)] == [AgentPaused]
    assert [type(a) for a in floor.speech(20)] == [BargeIn], "it was a voice after all"


def test_a_first_syllable_that_was_taken_for_a_noise_counts():
    floor = in_state(State.SPEAKING, min_speech_while_speaking_ms=600)
    began = floor.at_ms
    floor.speech(60)
    floor.turns.tripped(floor.at_ms)
    assert [type(a) for a in floor.silence(200)] == [AgentResumed]
    assert [a for a in floor.speech(600) if isinstance(a, BargeIn)] == [
        BargeIn(began + 260, began + 600)
    ]


def test_a_voice_in_the_background_pauses_the_agent_no_longer_than_it_may_be_his():
    floor = in_state(State.SPEAKING)
    floor.speech(120)
    assert floor.state is State.PAUSED
    assert floor.far(20) == [AgentResumed(floor.at_ms)]
    assert floor.far(3000) == []
    assert floor.turns.words("That is too long.", floor.at_ms, 300) == []
    assert [type(a) for a in floor.speech(240)][-1] is BargeIn, "he himself, over the others"


def test_voices_in_the_background_count_where_the_agent_is_silent():
    floor = Floor()
    assert floor.far(100) == [SpeechStarted(0)], "there he may be as soft as he likes"


def test_without_words_the_agent_goes_on_and_late_words_count_all_the_same():
    floor = paused(200)
    assert floor.silence(320) == [AgentResumed(floor.end + 400)]
    floor.silence(1000)
    assert say(floor, "Stop.") == [
        BargeIn(floor.began, floor.at_ms),
        TurnCommitted(2, floor.began, floor.end),
    ]
    assert floor.state is State.THINKING


@pytest.mark.parametrize(
    ("text", "after_ms", "interrupts"),
    [
        ("Stop.", 3900, True),
        ("What about the opening hours?", 3900, True),
        ("Stop.", 4100, False),
        ("Kilmore.", 1400, True),
        ("Kilmore.", 1600, False),
        ("Okay.", 1000, False),
    ],
)
def test_late_words_interrupt_the_longer_the_surer_they_are_meant(text, after_ms, interrupts):
    floor = paused(200)
    floor.silence(after_ms)
    kinds = [BargeIn, TurnCommitted] if interrupts else []
    assert [type(a) for a in say(floor, text)] == kinds


def test_what_was_said_while_the_agent_ended_is_a_turn_when_its_words_come():
    floor = paused(200)
    floor.silence(1000)
    floor.agent("done", "finished")
    assert floor.state is State.LISTENING
    assert say(floor, "How much is it?") == [TurnCommitted(2, floor.began, floor.end)]
    assert say(floor, "How much is it?") == [], "only once"


@pytest.mark.parametrize("what", ["Okay.", "", "Kilmore."])
def test_what_was_said_while_the_agent_ended_and_means_nothing_is_none(what):
    floor = paused(200)
    floor.silence(2000)
    floor.agent("done", "finished")
    assert say(floor, what) == []


def test_an_engine_that_ends_turns_itself_is_not_told_of_late_words():
    floor = paused(200)
    floor.silence(1000)
    floor.agent("done", "finished")
    floor.turns.belong_to("engine")
    assert say(floor, "How much is it?") == []
    assert floor.turns.turn == 1, "nor is a turn counted"


@pytest.mark.parametrize(
    "then", [lambda f: f.turns.digit(f.at_ms), lambda f: (f.turns.hold(True), f.turns.hold(False))]
)
def test_words_of_before_a_key_or_a_hold_mean_nothing(then):
    floor = paused(200)
    floor.silence(1000)
    then(floor)
    assert say(floor, "How much is it?") == []


def test_a_click_pauses_the_agent_for_a_moment_and_then_less_and_less():
    floor = in_state(State.SPEAKING)
    rests = []
    for _ in range(5):
        floor.speech(40)
        floor.turns.tripped(floor.at_ms)
        assert [type(a) for a in floor.silence(200)] == [AgentResumed]
        rest = 0
        while not floor.turns.armed:
            floor.silence(20)
            rest += 20
        rests.append(rest)
    assert rests[0] < 500
    assert rests == sorted(rests)
    assert rests[-1] > 3500


def test_its_own_echo_lets_the_agent_go_on_at_once():
    floor = in_state(State.PAUSED)
    assert floor.turns.echo(floor.at_ms) == [AgentResumed(floor.at_ms)]


def test_two_backchannels_in_a_row_are_no_long_speech():
    floor = paused(200)
    floor.silence(200)
    assert not [a for a in floor.speech(200) if isinstance(a, BargeIn)]


def test_a_trip_in_vain_changes_nothing():
    for state in (State.LISTENING, State.THINKING, State.INTERRUPTED):
        floor = in_state(state)
        assert not floor.turns.armed
        assert floor.turns.tripped(floor.at_ms) == []
        assert floor.state is state


def test_a_guarded_greeting_is_not_interrupted_and_what_was_said_is_answered():
    floor = Floor(guard_greeting_ms=2000)
    floor.agent("started")
    assert [type(a) for a in floor.speech(500)] == [SpeechStarted]
    assert not floor.turns.armed
    assert floor.silence(1000) == []
    floor.silence(520)
    assert floor.turns.armed
    floor.agent("done", "finished")
    assert floor.silence(20) == [TurnCommitted(1, 0, 500)]


def test_what_only_words_could_tell_is_kept_where_barge_in_is_off():
    floor = in_state(State.SPEAKING, barge_in="off")
    for text, kept in (("uh huh", []), ("parking", [TurnCommitted])):
        floor.speech(200)
        end = floor.at_ms
        floor.silence(80)
        assert floor.turns.words(text, end, 300) == []
        floor.silence(600)
        floor.agent("done", "finished")
        assert [type(a) for a in floor.silence(20)] == kept
        floor.agent("started")


def test_the_last_question_whether_he_is_there():
    floor = Floor(no_input_prompts=1)
    assert floor.silence(16_000) == [NoInput(1), NoInput(2, last=True)]


# Rests: frames that nobody tells of ---------------------------------------------------------------

INPUTS = ("tripped", "echo", "words", "started", "finished", "done", "interrupted", "digit", "hold")
stretches = st.tuples(
    st.sampled_from([1, 2, 4, 8, 16, 40]),
    st.booleans(),
    st.sampled_from([True, False, None]),
    st.sampled_from(["", "", "", "started", "started", *INPUTS]),
)


def put(turns, name, at_ms):
    """One input that isn't a frame."""
    match name:
        case "tripped" | "echo" | "digit":
            return getattr(turns, name)(at_ms)
        case "words":
            return turns.words("tell me more", at_ms, 300)
        case "started":
            return turns.agent_started() or []
        case "finished":
            return turns.agent_finished(at_ms)
        case "done":
            return turns.reply_done(at_ms)
        case "interrupted":
            return turns.interrupted() or []
        case _:
            return turns.hold(not turns._held)


def all_of(turns):
    """All that it knows but whether it was told of the last frame."""
    state = {**vars(turns), "_against": dict(vars(turns._against)), "_stirred": None}
    return state, turns.armed


@given(
    st.lists(stretches, min_size=4, max_size=40),
    st.sampled_from(["auto", "off"]),
    st.sampled_from(["bridge", "engine"]),
)
def test_frames_that_nobody_tells_of_change_nothing(script, barge_in, owner):
    changes = {"barge_in": barge_in, "no_input_ms": 1000, "guard_greeting_ms": 700}
    told, rested = Floor(owner, **changes).turns, Floor(owner, **changes).turns
    at_ms = 0
    for frames, speech, near, name in script:
        until_ms, armed = 0, None
        for n in range(frames):
            expected = told.frame(at_ms, speech, near)
            at_ms += 20
            if n and at_ms <= until_ms:
                assert expected == []
                assert told.armed == armed
                continue
            rested.pass_over(at_ms - 20)
            assert rested.frame(at_ms - 20, speech, near) == expected
            assert all_of(rested) == all_of(told)
            until_ms, armed = rested.rests_until(near), told.armed
        rested.pass_over(at_ms)
        assert all_of(rested) == all_of(told)
        if not name:
            continue
        assert put(rested, name, at_ms) == put(told, name, at_ms)
        assert rested.rests_until(near) == 0, "whatever came may matter to the next frame"
        assert all_of(rested) == all_of(told)


@given(
    st.lists(stretches, min_size=4, max_size=40),
    st.sampled_from(["auto", "off"]),
    st.sampled_from(["bridge", "engine", "engine"]),
)
def test_frames_that_are_told_of_late_bring_about_the_same(script, barge_in, owner):
    changes = {"barge_in": barge_in, "no_input_ms": 1000, "guard_greeting_ms": 700}
    told, late = Floor(owner, **changes).turns, Floor(owner, **changes).turns
    at_ms, until_ms, waiting, expected, before = 0, 0, [], [], None

    def catch_up():
        found = [action for frame in waiting for action in late.frame(*frame)]
        assert found == expected
        assert not waiting or set(map(type, found)) <= {TurnPausing}, "nobody waits for it"
        assert all_of(late) == all_of(told)
        waiting.clear()
        expected.clear()

    for frames, speech, near, name in script:
        for _ in range(frames):
            if at_ms + 20 > until_ms or near != before:
                catch_up()
                assert late.frame(at_ms, speech, near) == told.frame(at_ms, speech, near)
                until_ms, before = late.indifferent_until(), near
            else:
                armed = told.armed
                expected += told.frame(at_ms, speech, near)
                waiting.append((at_ms, speech, near))
                assert told.armed == armed
            at_ms += 20
        if name:
            catch_up()
            assert put(late, name, at_ms) == put(told, name, at_ms)
            assert late.indifferent_until() == 0, "whatever came may matter to the next frame"
            until_ms = 0


def test_whatever_comes_while_the_caller_speaks_to_a_bot_is_told_of_later():
    floor = Floor("engine", end_silence_ms=400)
    floor.speech(100)
    assert floor.turns.indifferent_until() == floor.at_ms + 399, "his turn may end then"
    floor.silence(200)
    assert floor.turns.indifferent_until() == floor.at_ms + 199
    floor.turns.agent_started()
    floor.silence(20)
    assert floor.turns.indifferent_until() == 0, "he might interrupt"


@pytest.mark.parametrize("speech", [False, True])
def test_a_floor_where_nothing_changes_rests(speech):
    floor = Floor(no_input_ms=2000)
    floor._frames(400, speech, near=None)
    until_ms = floor.turns.rests_until(None)
    assert until_ms >= 1900 if speech else until_ms == 1999
    floor.turns.agent_started()
    assert floor.turns.rests_until(None) == 0
    floor._frames(100, not speech, near=None)
    # Speech interrupts; silence has paused it already, and ends it 200 ms behind the speech.
    assert floor.turns.rests_until(None) == (400 + 200 - 1 if speech else 0)


def test_a_floor_rests_until_its_reflex_is_armed_again():
    floor = Floor(guard_greeting_ms=0)
    floor.turns.agent_started()
    floor.silence(40)
    assert floor.turns.armed
    floor.turns.tripped(floor.at_ms)
    floor.near = None
    assert AgentResumed in map(type, floor.silence(400))
    assert not floor.turns.armed
    until_ms = floor.turns.rests_until(None)
    floor.turns.pass_over(until_ms)
    assert not floor.turns.armed
    floor.turns.pass_over(until_ms + 1)
    assert floor.turns.armed
