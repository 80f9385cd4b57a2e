"""How well the demo agent understands sentences that its file doesn't hold, and what it refuses.

They stand as a caller says them, or as a recogniser writes them ("Where can I part my car?"). The
brain's thresholds were set by these; HELD_OUT was written afterwards
and has set none of them.
"""

from pathlib import Path

import pytest

from bridge.agent import load
from bridge.dialog.completeness import UNDERSTOOD
from bridge.engines.base import Shared, Wants
from bridge.engines.offline import OfflineProvider
from bridge.engines.parts import Do, Said, Say
from bridge.engines.rules import Memory

AGENTS = Path(__file__).parents[3] / "agents"

OURS = {
    "open at nine in the morning": [
        "What are your opening hours?",
        "When are you open?",
        "Hi, could you tell me your hours please?",
        "Until when are you open tonight?",
        "At what time do you close?",
        "Are you open this evening?",
        "Are you open on Saturdays?",
        "Is the shop open tomorrow morning?",
        "How late are you open?",
        "what time does the store open",
        "What are your opening powers?",
    ],
    "No, on Sunday we are closed": ["Are you open on Sunday?", "Have you opened on Sunday?"],
    "12 Harbor Street": [
        "Where are you?",
        "Where is your shop?",
        "What's your address, please?",
        "Can you give me directions?",
        "How do I find you?",
    ],
    "behind the shop": [
        "Where can I park?",
        "Is there parking?",
        "Where can I part my car?",
        "Do you have any parking spaces?",
        "Can I park near your store?",
    ],
    "thirty days": [
        "How can I return a book?",
        "Can I return a book without a receipt?",
        "What is your return policy?",
        "I would like a refund.",
        "I bought a book and I want to give it back.",
        "Can I exchange this book for another one?",
    ],
    "gift cards": [
        "Do you sell gift cards?",
        "How much are the gift cards?",
        "I'm looking for a gift card.",
        "Do you have vouchers?",
    ],
    "four evenings": [
        "Tell me about the upcoming events.",
        "What events are coming up?",
        "Are there any readings soon?",
        "Which authors are reading this month?",
        "Do you have story time for children?",
        "Tell me about the upcoming readings.",
        "Tell me about the events, please.",
        "What readings do you have this week?",
    ],
    "enter your order number": [
        "Where is my order?",
        "I'd like to check my order.",
        "Can you tell me the status of my order?",
        "I ordered a book last week.",
        "I want to ask about an order.",
        "I'd like to check on an order, please.",
    ],
    "putting you through": [
        "Can I speak to a human?",
        "I'd like to talk to a person.",
        "I want to speak to someone, please.",
        "Please transfer me to an agent.",
        "Can you connect me with a colleague?",
        "Can I talk to a real person, please?",
        "Let me talk to the manager.",
    ],
    "Thank you for calling": [
        "Goodbye.",
        "Thank you, goodbye.",
        "That's all, thanks.",
        "Bye.",
        "Good-by,",
        "No, that's all. Thank you.",
    ],
}

NOT_OURS = [
    "What's the weather like tomorrow?",
    "Can you order me a pizza?",
    "Who won the football match?",
    "What is the capital of France?",
    "I need a taxi to the airport.",
    "Can you fix my computer?",
    "My washing machine is broken.",
    "Tell me a joke.",
    "What's two plus two?",
    "How old are you?",
    "How are you?",
    "I'd like to book a flight to Paris.",
    "I have a doctor's appointment tomorrow.",
    "Play some music.",
    "Turn off the lights.",
    "Where can I buy milk?",
    "I lost my passport.",
    "How do I get to the train station?",
    "Can I pay my electricity bill?",
    "The quick brown fox jumps over the lazy dog.",
    "Where is the nearest hospital?",
    "Can I reserve a table for two?",
    "Do you have any vacancies tonight?",
    "How tall is the lighthouse?",
    "My card was declined.",
    "Do you want to buy a car?",
    "I'm calling from the insurance company.",
    "What do you think about politics?",
    "Is it going to rain on Sunday?",
    "My sister is coming home.",
    "Good heavens.",
    "Mhm.",
    "Is your refrigerator running?",
    "Can you hear the sea?",
    "Please remove me from your list.",
]

HELD_OUT = {
    "open at nine in the morning": [
        "Could you tell me when you close on Friday?",
        "What hours are you open on Saturday?",
        "Do you open on Mondays?",
        "Are you open late today?",
        "Hello, I just want to know what time you open tomorrow.",
    ],
    "12 Harbor Street": [
        "I'm trying to find your bookshop.",
        "What street is the shop on?",
        "Where exactly is the store located?",
        "Could I have your address?",
    ],
    "behind the shop": [
        "Is there somewhere to park my car?",
        "How is the parking at your store?",
        "Do you have your own parking lot?",
    ],
    "thirty days": [
        "How long do I have to return a book?",
        "Can I bring back a book I don't like?",
        "I need to return something I bought from you.",
        "Do I get my money back if I return it?",
    ],
    "gift cards": [
        "I need a gift card for my mother.",
        "Do you have any gift vouchers?",
        "Can I buy gift certificates at your shop?",
    ],
    "four evenings": [
        "Are there any events this week?",
        "When is the next reading?",
        "Do you have a book club?",
        "Can you tell me about your upcoming author readings?",
    ],
    "enter your order number": [
        "Has my order arrived yet?",
        "Can I check an order?",
        "I'm calling to ask about the book I ordered.",
        "Is my order ready?",
    ],
    "putting you through": [
        "I would rather talk to a human being.",
        "Could I speak with somebody from your staff?",
        "Give me a real person please.",
        "Can you transfer me to someone?",
    ],
    "Thank you for calling": [
        "Okay, bye bye.",
        "That was all I wanted, goodbye.",
        "See you later!",
    ],
}


@pytest.fixture(scope="module")
def brain():
    return OfflineProvider(load(AGENTS, "demo"), Shared())._brain


def answer(brain, text, memory=None):
    steps = brain.decide(Said("words", text), memory or Memory())
    return " ".join(step.text for step in steps if isinstance(step, Say))


@pytest.mark.parametrize("sentences", [OURS, HELD_OUT], ids=["set by", "held out"])
def test_it_understands(brain, sentences):
    cases = [(part, text) for part, texts in sentences.items() for text in texts]
    missed = [
        (text, answer(brain, text)) for part, text in cases if part not in answer(brain, text)
    ]
    assert len(missed) <= len(cases) * 0.1, missed
    # What it doesn't understand it asks about; it never answers another question instead.
    assert not [m for m in missed if not m[1].startswith(("Do you want", "I'm sorry"))]


def test_it_does_not_answer_what_it_was_not_asked(brain):
    answered = [
        (text, got)
        for text in NOT_OURS
        if "understand" not in (got := answer(brain, text)) and not got.startswith("Do you want")
    ]
    assert answered == []


def test_it_rarely_asks_back_what_has_nothing_to_do_with_it(brain):
    asked = [text for text in NOT_OURS if answer(brain, text).startswith("Do you want")]
    assert len(asked) <= len(NOT_OURS) * 0.2, asked


def test_everything_that_it_can_do_is_there(brain):
    steps = brain.decide(Said("words", "Can I speak to a human?"), Memory())
    assert Do("transfer", {"extension": "200"}) in steps
    assert Do("hang_up") in brain.decide(Said("words", "Goodbye."), Memory())
    waiting = Memory(number_for="order")
    [wants, say, _] = brain.decide(Said("digits", "4217"), waiting)
    assert wants == Wants("order")
    assert say == Say(
        "Yes, I see order number four, two, one, seven. It is ready for you to pick up."
    )
    [_, say, _] = brain.decide(Said("digits", "9"), waiting)
    assert "can't find an order with the number nine" in say.text


def test_its_transfer_is_allowed():
    agent = load(AGENTS, "demo")
    assert "200" in agent.transfer.extensions


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_agent_file_can_be_read(path):
    assert load(AGENTS, path.stem).name == path.stem


@pytest.mark.parametrize(
    ("whole", "half"),
    [
        ("do you have any gift cards", "do you have any gift"),
        ("I would like to speak to a person", "I would like to speak to"),
        ("I am calling about an order", "I am calling"),
        ("where can I park", "where can I"),
        ("I need your address", "I need your"),
    ],
)
def test_it_knows_whether_it_understood_all_that_it_takes(brain, whole, half):
    assert brain.understands(whole, None) >= UNDERSTOOD
    assert brain.understands(half, None) < UNDERSTOOD


def test_a_slip_of_the_recogniser_is_seen_through(brain):
    said = "Sorry to interrupt, do you sell, o'gift cards?"
    assert answer(brain, said).startswith("Yes, we have gift cards")


def test_what_it_asked_for_is_understood(brain):
    waiting, asked = Memory(number_for="order"), Memory(asked_back="hours")
    assert brain.understands("four two one seven", waiting) == 1.0
    assert brain.understands("four two one", waiting) == 0.0
    assert brain.understands("yes please", asked) == 1.0
    assert brain.understands("yes please", None) < UNDERSTOOD
