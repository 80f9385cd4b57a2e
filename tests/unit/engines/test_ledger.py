"""What is kept of a conversation for the next engine: bounded, however long the call."""

from types import SimpleNamespace

import numpy as np

from bridge.dialog.flow import Flow
from bridge.engines.base import (
    Audio,
    BargeIn,
    CallerText,
    Digit,
    Entry,
    Heard,
    ReplyDone,
    SpeechStarted,
    Text,
    TurnCommitted,
)
from bridge.engines.ledger import MAX_HISTORY, PRE_ROLL_MS, REPLAY_MS, Ledger

RATE = 8000


def ledger(history=(), greeting=""):
    agent = SimpleNamespace(greeting=greeting)
    return Ledger(
        SimpleNamespace(
            resume=None,
            rate=RATE,
            history=history,
            agent=agent,
            rejoin="",
            now_ms=lambda: 0,
            flow=Flow(),
        )
    )


def listen(own, ms):
    for _ in range(ms // 20):
        own.hear(own.now_ms, np.zeros(RATE // 50, np.int16))


def kept_ms(own):
    return sum(len(pcm) for _, pcm in own._audio) * 1000 // RATE


def test_of_a_long_conversation_the_last_lines_are_kept():
    own = ledger(history=[Entry("agent", "0")])
    for n in range(1, MAX_HISTORY + 50):
        own.told(Heard(n, 100, str(n), cut=False))
    history = own.history()
    assert len(history) == MAX_HISTORY
    assert (history[0].text, history[-1].text) == ("50", str(MAX_HISTORY + 49))


def test_of_a_history_that_came_with_the_call_too():
    came = [Entry("agent", str(n)) for n in range(MAX_HISTORY + 10)]
    assert ledger(came).history()[0] == Entry("agent", "10")


def test_while_nobody_speaks_only_a_soft_beginning_is_kept():
    own = ledger()
    listen(own, 10_000)
    assert PRE_ROLL_MS <= kept_ms(own) <= PRE_ROLL_MS + 20


def test_of_a_caller_who_speaks_without_end_the_end_is_kept():
    own = ledger()
    listen(own, 1000)
    own.told(SpeechStarted(1000))
    listen(own, REPLAY_MS - 600)
    assert kept_ms(own) == REPLAY_MS - 600 + PRE_ROLL_MS, "all of it, and what was before"
    listen(own, 60_000)
    assert REPLAY_MS <= kept_ms(own) <= REPLAY_MS + 20
    audio, _ = own.again()
    assert audio[-1][0] == own.now_ms - 20


def test_a_turn_that_was_answered_is_not_heard_again():
    own = ledger()
    own.told(SpeechStarted(0))
    listen(own, 2000)
    own.told(TurnCommitted(1, 0, 1500))
    own.gave(CallerText("hello", final=True, turn=1))
    own.gave(Text(1, "hi"))
    own.gave(Audio(1, np.ones(RATE, np.int16)))
    assert own.history() == (Entry("caller", "hello"),)
    own.gave(ReplyDone())
    assert not own.owes
    assert own.again() == ([], [])
    listen(own, 1000)
    assert kept_ms(own) <= PRE_ROLL_MS + 20


def test_keys_that_cut_the_agent_short_wait_for_an_answer():
    own = ledger(greeting="Hello.")
    assert own.owes
    own.gave(Text(1, "Hello."))
    own.told(BargeIn(0, 0))
    own.told(Digit("4"))
    own.told(Heard(1, 300, "Hel", cut=True))
    assert own.resume().digits == "4"
    assert not own.resume().replying
    own.gave(Text(2, "Four."))
    assert own.resume().digits == ""
