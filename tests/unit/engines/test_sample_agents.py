"""How the sample agents understand people, in sentences that their files don't hold."""

from pathlib import Path

import pytest

from bridge.agent import load
from bridge.engines.base import Shared
from bridge.engines.offline import OfflineProvider
from bridge.engines.parts import Do, Said, Say
from bridge.engines.rules import Memory

AGENTS = Path(__file__).parents[3] / "agents" / "samples"
PASSED = {"customer": "Anna", "day": "Tuesday", "time": "ten"}

UNDERSTOOD = {
    "receptionist": {
        "from eight in the morning": ["What are your opening hours?", "Is the office open today?"],
        "4 Mill Lane": ["Where can I find you?", "Could you tell me your address, please?"],
        "set_variable": ["Could you ask somebody to call me back?", "I'd like to leave a message."],
        "transfer 200": ["Can I talk to somebody in accounting?", "I want to speak to a human."],
    },
    "support": {
        "Unplug it, wait thirty seconds": [
            "My router has a red power light.",
            "The power light is red, what can I do?",
        ],
        "connect a computer by cable": [
            "The internet is so slow today.",
            "It's a slow connection.",
        ],
        "sticker": ["What is my wireless password?", "Where is the password for the wireless?"],
        "small button": ["How can I reset my router?"],
        "no outage": ["Is there an outage today?"],
        "nothing about that": ["Do you sell bicycles?", "How is the weather tomorrow?"],
        "transfer 200": ["I want to talk to a technician.", "That didn't help at all."],
    },
    "reminder": {
        "confirmed": ["Yes.", "Yes, sure.", "Of course, I will be there.", "Yes, that works."],
        "move": ["I'm sorry, I can't come.", "No, I can't make it.", "I need another day."],
        "cancelled": ["Please cancel it.", "I'd like to cancel my appointment."],
        "on Tuesday at ten": ["When is the appointment again?"],
        "Lakeside Avenue": ["Where do I have to go?"],
        "hang_up": ["No.", "No, thanks.", "That's all, bye.", "You have the wrong number."],
    },
    "sales": {
        "house blend": ["Yes.", "Yes, go ahead.", "What's the offer?"],
        "INTEREST": ["I'd like to order that.", "I'll take it."],
        "instead of thirty": ["How much does it cost?"],
        "DO_NOT_CALL": ["Please don't call me any more.", "Take me off your list."],
        "hang_up": ["No.", "No, thank you.", "I'm not interested.", "I have no time."],
    },
    "orders": {
        "hash key": ["Where's my parcel?", "I'd like to track my order."],
        "yesterday, and arrives": ["4217", "It's four two one seven."],
        "can't find": ["9999"],
        "thirty days": ["I'd like to send something back.", "How do returns work?"],
        "four dollars": ["How much is shipping?"],
        "transfer 200": ["I have a complaint.", "Can I speak to a human?"],
        "hang_up": ["No, that's all.", "Goodbye."],
    },
}
SENTENCES = [
    (name, said, expected)
    for name, answers in UNDERSTOOD.items()
    for expected, sentences in answers.items()
    for said in sentences
]


async def answer(name, said):
    """What it says and does, as a text."""
    agent = OfflineProvider(load(AGENTS, name), Shared())
    brain = agent._brain.of(PASSED)
    parts = []
    async for step in brain.think(Said("digits" if said.isdigit() else "words", said), None, ()):
        match step:
            case Say(text):
                parts.append(text)
            case Do(tool, arguments):
                parts += [tool, *map(str, arguments.values())]
    return " ".join(parts)


@pytest.mark.parametrize(("name", "said", "expected"), SENTENCES)
async def test_it_understands(name, said, expected):
    assert expected in await answer(name, said)


async def test_a_yes_to_an_offer_is_an_order_and_a_no_is_a_no():
    brain = OfflineProvider(load(AGENTS, "sales"), Shared())._brain
    for said, tool in (("Yes.", "set_variable"), ("No.", "hang_up")):
        *_, memory = brain.decide(Said("words", "What is the offer?"), Memory())
        steps = brain.decide(Said("words", said), memory.memory)
        assert [step.name for step in steps if isinstance(step, Do)] == [tool]
