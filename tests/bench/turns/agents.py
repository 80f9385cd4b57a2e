"""The bench's agents: the demo's, and one with the demo's settings that talks at length.

The talkative one says the same text as its greeting and as its answer to whatever it hears: so
there is always something to interrupt, and its audio, rendered once, is known to the sample.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

from tests.lab.root import REPOSITORY

DEMO, TALKER = "700", "701"
"""Their extensions; 701 is the number of agent `echo`, whose place the talker takes."""

TALK = (
    "We have many evenings coming up in our shop, and I will tell you about every one of them now.",
    "On Monday at seven, a teacher from the village shows how to bind a book with needle and "
    "thread, and you may take your own work home.",
    "On Tuesday at eight, two sisters read letters that their grandfather wrote on a sailing ship "
    "many years ago.",
    "On Wednesday afternoon, there is a table with old maps of the harbor, and somebody who can "
    "explain every line that is drawn on them.",
    "On Thursday at seven, the poet Anna Reyes reads from her new collection, and there will be "
    "tea and cake for everybody.",
    "On Friday at eight, the historian Paul Keller talks about the ships that were lost outside "
    "the lighthouse in stormy winters.",
    "On Saturday at eleven in the morning, there is story time for children from four to eight "
    "years, with puppets and a real parrot.",
    "On Sunday the shop is closed, but the garden behind it is open, and everybody may sit there "
    "with a book for as long as the sun shines.",
    "On the last Tuesday of the month, our book club meets in the back room, and this time they "
    "speak about a novel that plays in our own street.",
    "In the first week of the next month, a painter from the island shows pictures of birds, and "
    "most of them may be bought and carried home at once.",
    "After that, there is a long night of detective stories, with soup at midnight and prizes for "
    "all who find the murderer before the last page.",
)


def write(folder: Path) -> None:
    """Put both agents into a folder."""
    shutil.copy(REPOSITORY / "agents" / "demo.toml", folder)
    demo = (REPOSITORY / "agents" / "demo.toml").read_text()
    talk = json.dumps(" ".join(TALK))  # JSON writes texts as TOML does
    turns = re.search(r"^\[turns\].*?(?=^\[)", demo, re.MULTILINE | re.DOTALL)
    assert turns, "the demo's agent has no [turns]"
    (folder / "echo.toml").write_text(
        f'engine = "offline"\nlanguage = "en"\nmax_call_s = 1800\ngreeting = {talk}\n\n'
        f"{turns.group()}\n[offline]\n\n[offline.replies]\nfallback = [{talk}]\n"
        f"nothing_to_repeat = {talk}\n"
    )
    tomllib.loads((folder / "echo.toml").read_text())
