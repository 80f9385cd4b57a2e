"""What is said in the corpus and by whom, in two halves that share neither a voice nor a text.

The tuning half is for choosing thresholds; the held-out half is only ever measured on. A comma in
`PAUSED` is where the speaker pauses; the voice says the sentence whole, so that its melody is that
of a sentence which goes on, and its own little pause is stretched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Half = Literal["tuning", "held_out"]
HALVES: tuple[Half, ...] = ("tuning", "held_out")


@dataclass(frozen=True)
class Texts:
    """One half."""

    voices: tuple[str, ...]
    """Synthetic voices: `engine:voice`."""
    people: tuple[str, ...]
    """Folders of prompts that people have read, in Debian's Asterisk packages."""
    short: tuple[str, ...]
    sentences: tuple[str, ...]
    backchannels: tuple[str, ...]
    questions: tuple[str, ...]
    paused: tuple[str, ...]
    prompts: tuple[str, ...]
    """Prompts of `people` that serve as interruptions."""
    music: tuple[str, ...]


TEXTS: dict[Half, Texts] = {
    "tuning": Texts(
        voices=("flite:rms", "flite:kal16", "espeak:en-us+m3", "espeak:en-gb+f2", "espeak:en-gb"),
        people=("it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU", "es_MX_f_Allison"),
        short=(
            *("Halt.", "Hey.", "Nope.", "Hold on.", "Excuse me.", "Stop talking.", "Don't."),
            *("One moment.", "Listen."),
        ),
        sentences=(
            "Sorry to interrupt, but I need something else.",
            "That is not what I wanted to know.",
            "Can you please tell me about parking?",
            "I have a different question.",
            "Thank you, that is enough.",
            "Let me talk to somebody else.",
            "What about the opening hours?",
            "Please go back to the beginning.",
            "I already know all of that.",
            "Could you speak a little slower?",
            "How much does it cost?",
        ),
        backchannels=("Mm-hmm.", "Yeah.", "Okay.", "Sure.", "Got it.", "Oh."),
        questions=(
            "What are your opening hours?",
            "Where can I park my car?",
            "Do you sell gift cards?",
            "Can I return a book?",
            "What is your address?",
            "When do you close?",
            "What is the status of my order?",
            "Can I get a refund?",
            "What can you do?",
            "Are you open on Monday?",
            "Where are you located?",
            "Do you have parking?",
        ),
        paused=(
            "I would like to know, whether you are open on Sunday.",
            "My order number is four two, one seven.",
            "Can you tell me, where I can park my car?",
            "I bought a book last week, and I want to bring it back.",
            "My number is five five, three zero.",
            "Do you have, any gift cards left?",
            "I am calling because, I ordered a book.",
            "Well, what time do you open in the morning?",
            "If I come on Saturday, how late are you open?",
            "The order number is one zero, two four.",
            "I was wondering, if there are any readings this month.",
            "Is it possible to, exchange a book that I bought?",
            "My sister told me that, you have story time for children.",
            "I need the address, of your shop in Harbor Street.",
            "It is for my mother, so do you have a voucher?",
            "Four two, one eight.",
            "On the weekend, when do you close?",
            "So, how do I find the bookshop?",
            "Before I drive over, I want to check my order.",
            "Hello, I have a question about a refund.",
            "The number, is four two one seven.",
            "I would like to speak to, somebody in the shop.",
        ),
        prompts=(
            *("vm-goodbye", "pbx-invalid", "vm-incorrect", "conf-invalid", "vm-nomore"),
            *("conf-onlyperson", "vm-isunavail", "agent-incorrect", "transfer", "vm-sorry"),
        ),
        music=("macroform-cold_day", "macroform-robot_dity"),
    ),
    "held_out": Texts(
        voices=("flite:slt", "flite:awb", "piper:joe", "espeak:en-us+f4", "espeak:en-gb-x-rp+m7"),
        people=("en_US_f_Allison", "fr_CA_f_June", "it_IT_f_Menardi"),
        short=(
            *("Stop.", "Wait.", "No.", "Hang on.", "Stop it.", "No, no.", "Pardon me."),
            *("Just a second.", "Hello?"),
        ),
        sentences=(
            "I am sorry, but this is taking too long.",
            "No, I meant something different.",
            "Is there anybody else that I can speak with?",
            "When do you close tonight?",
            "Can I ask you something?",
            "All of this does not help me.",
            "Where exactly is your shop?",
            "Please say that again.",
            "What is the price of a gift card?",
            "My book has not arrived yet.",
            "Never mind, I will call again tomorrow.",
        ),
        backchannels=("Uh-huh.", "Right.", "I see.", "Yes.", "All right.", "Good."),
        questions=(
            "How late are you open tonight?",
            "Is there a parking lot?",
            "I want to buy a gift card.",
            "What is your return policy?",
            "How do I find the bookshop?",
            "What time do you open in the morning?",
            "Has my order arrived?",
            "How long do I have to return something?",
            "What do you know?",
            "Are you open tomorrow?",
            "Give me directions to the store.",
            "Can I leave my car somewhere?",
        ),
        paused=(
            "I wanted to ask, when you close today.",
            "The number of my order is one zero, two four.",
            "Could you please tell me, how I get to you?",
            "The book has a torn page, so can I get my money back?",
            "It says here, five five three zero.",
            "Are there, any parking spaces near the shop?",
            "I have been waiting for two weeks, and my order has not arrived.",
            "Yes, until when is the shop open?",
            "When I come by car, is there a place to park?",
            "Four two, one seven, that is my number.",
            "I would like to have, a gift certificate for a friend.",
            "Could you tell me what, your business hours are?",
            "My husband says that, you are closed on Sunday.",
            "We are looking for, the street that you are on.",
            "As a present, how much is a gift card?",
            "One zero, two four.",
            "Tomorrow morning, what time does the store open?",
            "Okay, do I need the receipt for a return?",
            "Since I am new in town, give me directions to the store please.",
            "Good morning, I am calling about an order.",
            "My number here, is four two one eight.",
            "I want to exchange, a book that I got as a present.",
        ),
        prompts=(
            *(
                "auth-thankyou",
                "conf-kicked",
                "vm-tooshort",
                "tt-somethingwrong",
                "privacy-unident",
            ),
            *("conf-enteringno", "vm-reachoper", "agent-pass", "vm-passchanged", "demo-thanks"),
        ),
        music=("macroform-the_simplicity", "manolo_camp-morning_coffee", "reno_project-system"),
    ),
}
