"""What the bench's callers say: 72 sentences in three of flite's voices, always the same."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from tests.bench.generator import FRAME, STRIDE
from tests.demo.voice import Clip, clip
from tests.lab.capture import PCMU, RATE, TABLES, Pcm

VOICES = ("rms", "slt", "awb")
SENTENCES = """\
What are your opening hours on Saturday?
I would like to return a book that I bought last week.
Can you tell me where I can park my car?
Please transfer me to a human being.
My order number is four seven one one.
Do you sell gift cards for twenty pounds?
The parcel was damaged when it arrived this morning.
How long does the delivery usually take?
I need to change the address on my account.
Is there a discount for students and teachers?
The meeting has been moved to Thursday afternoon.
Could you repeat the last part, please?
She left the keys on the kitchen table.
The train to the airport leaves at half past nine.
We are looking for a quiet room with a view.
There is something wrong with my telephone line.
I have been waiting for more than twenty minutes.
Can I pay with a credit card or only in cash?
The weather will be cold and windy tomorrow.
Please send the invoice to my office.
My name is Robert and I live in Oxford.
What is the price of the large yellow umbrella?
I forgot my password and cannot log in.
Thank you very much for your help, goodbye.
"""


@functools.cache
def utterances() -> list[Clip]:
    """All of them, each sentence in each voice."""
    lines = SENTENCES.splitlines()
    return [clip(line, voice) for voice in VOICES for line in lines]


@functools.cache
def speech() -> Pcm:
    """One recording, 8 kHz: the utterances with half a second between them."""
    pause = np.zeros(RATE // 2, np.int16)
    whole = np.concatenate([part for one in utterances() for part in (one.pcm, pause)])
    frames = len(whole) // FRAME
    while frames % STRIDE == 0:  # or callers would begin at few places only
        frames -= 1
    return whole[: frames * FRAME]


@functools.cache
def load_audio() -> npt.NDArray[np.uint8]:
    """The same in PCMU, as the generator wants it."""
    return encode(speech())


def encode(pcm: Pcm) -> npt.NDArray[np.uint8]:
    """PCMU of samples, by the judge's own table: the code whose value is nearest."""
    table = TABLES[PCMU].astype(np.int64)
    order = np.argsort(table, kind="stable")
    values = table[order]
    at = np.clip(np.searchsorted(values, pcm), 1, 255)
    lower = pcm - values[at - 1] < values[at] - pcm
    return order[np.where(lower, at - 1, at)].astype(np.uint8)
