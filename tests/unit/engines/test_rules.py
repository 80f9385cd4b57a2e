"""The rules brain, on a small agent of the test's own; the demo agent is test_demo_agent.py's."""

import pytest

from bridge.engines.base import Wants
from bridge.engines.parts import Do, Remember, Said, Say
from bridge.engines.rules import Intent, Lookup, Memory, Rules, RulesBrain
from bridge.errors import ConfigError
from bridge.settings import build

FACTS = {"hours": "nine to six", "place": "12 Harbor Street"}
INTENTS = (
    Intent(
        "hours",
        ("when are you open", "what are your opening hours", "when do you close"),
        "We are open {hours}.",
        about="know our hours",
        instead={"sunday": "Not on Sunday. Else {hours}."},
    ),
    Intent("place", ("where are you", "what is your address"), "At {place}.", about="find us"),
    Intent(
        "order",
        ("where is my order", "check my order status", "I ordered a book"),
        "Please enter the number.",
        lookup=Lookup({"4217": "is ready"}, "Order {digits} {value}.", "No order {digits}."),
    ),
    Intent(
        "human",
        ("can I speak to a human", "transfer me to an agent"),
        "One moment.",
        tool="transfer",
        extension="200",
        failed="Nobody is there.",
    ),
    Intent("bye", ("goodbye", "that is all"), "Goodbye.", tool="hang_up"),
)
REPLIES = Rules(
    fallback=("Pardon?", "Ask about hours."),
    no_input=("Hello?", "Still there?"),
    no_input_end="Bye",
)


@pytest.fixture
def brain():
    return RulesBrain(INTENTS, FACTS, REPLIES, "test")


class Talk:
    """A conversation with the brain, its memory kept as the cascade keeps it."""

    def __init__(self, brain):
        self.brain, self.memory, self.tools = brain, Memory(), []

    def __call__(self, text, kind="words", count=0, last=False):
        said = []
        for step in self.brain.decide(Said(kind, text, count, last), self.memory):
            match step:
                case Say(text=text):
                    said.append(text)
                case Do():
                    self.tools.append((step.name, dict(step.arguments)))
                case Remember(memory=memory):
                    self.memory = memory
        return " ".join(said)


def test_answers_are_filled_with_facts(brain):
    talk = Talk(brain)
    assert talk("When are you open?") == "We are open nine to six."
    assert talk("Are you open on Sundays?") == "Not on Sunday. Else nine to six."
    assert talk("what's your address") == "At 12 Harbor Street."


def test_a_question_that_may_be_ours_is_asked_back(brain):
    talk = Talk(brain)
    assert talk("are you opening a shop in my town") == "Do you want to know our hours?"
    assert talk("Yes, please.") == "We are open nine to six."
    assert talk("are you opening a shop in my town") == "Do you want to know our hours?"
    assert talk("No.") == "All right. What can I do for you?"
    assert talk("yes") == "Pardon?"  # to nothing


def test_asking_back_is_dropped_for_another_question(brain):
    talk = Talk(brain)
    talk("are you opening a shop in my town")
    assert talk("where are you") == "At 12 Harbor Street."
    assert talk("yes") == "Pardon?"


def test_it_does_not_ask_back_the_same_twice_running(brain):
    talk = Talk(brain)
    assert talk("are you opening a shop in my town") == "Do you want to know our hours?"
    assert talk("are you opening a shop in my town") == "Pardon?"


def test_fallbacks_take_turns_until_something_is_understood(brain):
    talk = Talk(brain)
    said = [talk(text) for text in ("xyzzy", "plugh", "plover", "goodbye", "xyzzy")]
    assert said == ["Pardon?", "Ask about hours.", "Ask about hours.", "Goodbye.", "Pardon?"]


def test_a_number_is_looked_up(brain):
    talk = Talk(brain)
    assert talk("Where is my order?") == "Please enter the number."
    assert talk("4217", "digits") == "Order four, two, one, seven is ready."
    assert talk("99", "digits") == "No order nine, nine."
    assert talk("4217", "digits") == "Order four, two, one, seven is ready."


def test_a_number_may_be_spoken(brain):
    talk = Talk(brain)
    assert talk("where is my order four two one seven") == "Order four, two, one, seven is ready."
    talk("where is my order")
    assert talk("It's four two one eight") == "No order four, two, one, eight."
    assert talk("Sorry, 4217.") == "Order four, two, one, seven is ready."


def test_a_question_while_a_number_is_awaited_is_answered(brain):
    talk = Talk(brain)
    talk("where is my order")
    assert talk("when do you close") == "We are open nine to six."


def test_a_number_that_nobody_asked_for_in_another_question_is_no_order(brain):
    assert Talk(brain)("are you open on 24 12 2026") == "We are open nine to six."


def test_a_number_means_nothing_where_nothing_is_looked_up():
    brain = RulesBrain(INTENTS[:2], FACTS, REPLIES, "test")
    assert Talk(brain)("4217", "digits") == "Pardon?"


def test_tools_come_after_what_is_said(brain):
    steps = brain.decide(Said("words", "can I speak to a human"), Memory())
    assert [type(s) for s in steps] == [Wants, Say, Remember, Do]
    talk = Talk(brain)
    talk("can I speak to a human")
    talk("goodbye")
    assert talk.tools == [("transfer", {"extension": "200"}), ("hang_up", {})]


def test_a_failed_tool_is_said(brain):
    talk = Talk(brain)
    assert talk("transfer", "failed") == "Nobody is there."
    assert talk("hang_up", "failed") == "I'm sorry, that didn't work."


def test_silence_is_asked_about_and_ends_the_call(brain):
    talk = Talk(brain)
    said = [talk("", "silence", n, last=n == 3) for n in (1, 2, 3)]
    assert said == ["Hello?", "Still there?", "Bye"]
    assert talk.tools == [("hang_up", {})]


def test_it_repeats_what_it_said_last(brain):
    talk = Talk(brain)
    assert talk("can you say that again") == "I haven't said anything yet."
    talk("when are you open")
    talk("", "silence", 1)
    assert talk("could you repeat that please") == "We are open nine to six."


def test_silence_leaves_a_question_open(brain):
    talk = Talk(brain)
    talk("where is my order")
    talk("", "silence", 1)
    assert talk("4217", "digits") == "Order four, two, one, seven is ready."


def test_deciding_changes_nothing(brain):
    first = brain.decide(Said("words", "where is my order"), Memory())
    brain.decide(Said("words", "goodbye"), Memory())
    assert brain.decide(Said("words", "where is my order"), Memory()) == first


def test_fixed_texts_hold_every_answer_that_is_known_in_advance(brain):
    fixed = brain.fixed()
    assert fixed[-1] == "Order four, two, one, seven is ready."
    assert {
        "We are open nine to six.",
        "Do you want to find us?",
        "Bye",
        "Nobody is there.",
    } <= set(fixed)
    assert not any("{" in text for text in fixed)


@pytest.mark.parametrize(
    ("intent", "error"),
    [
        ({"reply": "Open {hour}."}, "no fact 'hour' for 'Open {hour}.'; did you mean 'hours'?"),
        ({"reply": "Open {x}."}, "no fact 'x' for 'Open {x}.'; facts: hours, place"),
        ({"reply": "Open {hours."}, "'Open {hours.'"),
        ({"reply": "{digits}"}, "no fact 'digits'"),
        ({"reply": "{}"}, "no fact ''"),
        ({"reply": ""}, "has no reply"),
        ({"reply": "x", "examples": []}, "has no examples"),
        ({"reply": "x", "tool": "transfer"}, "has no extension"),
        ({"reply": "x", "lookup": {}}, "a lookup takes either"),
        ({"reply": "x", "exampels": []}, "did you mean 'examples'"),
    ],
)
def test_what_is_wrong_in_an_agent_file_is_said(intent, error):
    def load():
        made = build(Intent, {"name": "hours", "examples": ["when"], **intent}, "file")
        return RulesBrain([made], FACTS, REPLIES, "file")

    with pytest.raises(ConfigError) as caught:
        load()
    assert error in str(caught.value)


def test_two_intents_of_one_name_are_an_error():
    with pytest.raises(ConfigError, match="two intents"):
        RulesBrain([INTENTS[0], INTENTS[0]], FACTS, REPLIES, "file")


FOUND = [
    {"source": "delivery.md, Delivery", "text": "Parcels leave every weekday. Abroad costs ten."},
    {"source": "gifts.md, Gifts", "text": "We wrap presents for free."},
]


@pytest.fixture
def asks():
    """A brain with documents, and what it looked for."""
    asked = []

    async def find(query):
        asked.append(query)
        return FOUND

    brain = RulesBrain(INTENTS, FACTS, REPLIES, "test", find)

    async def ask(text, kind="words"):
        memory = Memory(asked_back="hours")
        return [
            step.text
            async for step in brain.think(Said(kind, text), memory, ())
            if isinstance(step, Say)
        ]

    return ask, asked


async def test_what_no_intent_knows_the_documents_may(asks):
    ask, asked = asks
    assert await ask("Do you wrap presents?") == ["We wrap presents for free."]
    assert await ask("When does a parcel leave?") == [FOUND[0]["text"]]
    assert asked == ["Do you wrap presents?", "When does a parcel leave?"]
    assert await ask("Do you sell tractors?") == ["Pardon?"]


@pytest.mark.parametrize("said", ["when are you open", "yes", "42171", "4217"])
async def test_what_is_known_isnt_looked_for(asks, said):
    ask, asked = asks
    await ask(said, "digits" if said == "4217" else "words")
    assert asked == []


def test_what_the_dialplan_passes_goes_before_a_fact(brain):
    mine = brain.of({"hours": "never {place}", "other": "x"})
    assert Talk(mine)("when are you open") == "We are open never {place}."
    assert Talk(brain)("when are you open") == "We are open nine to six."


LOOKUP = Lookup(
    tool="status", argument="order", found="{digits} {state}, {when}.", missing="No {digits}."
)


@pytest.fixture
def looks():
    order = Intent("order", ("where is my order", "check my order status"), "Which?", lookup=LOOKUP)
    return RulesBrain((order,), {}, REPLIES, "test")


def test_a_tool_may_look_a_number_up(looks):
    talk = Talk(looks)
    assert talk("where is my order") == "Which?"
    assert talk("4217", "digits") == ""
    assert talk.tools == [("status", {"order": "4217"})]
    assert looks.waits_for("status", talk.memory)
    assert not looks.waits_for("other", talk.memory)
    (said, _) = looks.decide(
        Said("done", "status", value={"state": "is ready", "n": 3}), talk.memory
    )
    assert said == Say("four, two, one, seven is ready, .")
    assert talk("status", "failed") == "No four, two, one, seven."
    assert talk("one one one one") == ""  # the next number is for the same intent
    assert talk.tools[1:] == [("status", {"order": "1111"})]


def test_a_lookup_has_either_a_table_or_a_tool():
    for wrong in ({}, {"tool": "a", "table": {"1": "b"}}):
        with pytest.raises(ValueError, match="either a 'table' or a 'tool'"):
            Lookup(**wrong)


def test_what_a_yes_and_a_no_to_a_question_of_its_own_mean():
    offer = Intent("offer", ("what is it",), "Tea. Do you take it?", yes="takes", no="bye")
    takes = Intent("takes", ("I take it",), "Thanks.")
    bye = Intent("bye", ("goodbye",), "Bye.", tool="hang_up")
    brain = RulesBrain((offer, takes, bye), {}, REPLIES, "test")
    assert [Talk(brain)("what is it"), Talk(brain)("yes")] == ["Tea. Do you take it?", "Pardon?"]
    for answer, said in (("Yes, please.", "Thanks."), ("No.", "Bye.")):
        talk = Talk(brain)
        talk("what is it")
        assert (talk(answer), talk("yes")) == (said, "Pardon?")
    with pytest.raises(ConfigError, match="no intent 'take'; did you mean 'takes'"):
        RulesBrain((Intent("x", ("x",), "x", yes="take"), takes), {}, REPLIES, "test")
