"""A neighbouring version of the program, to try what happens while both serve: this one, changed as
a release may change it.

It knows a slot column and fields of the record and of the progress that we don't know, lacks a
column that we have, and its workers' names tell them from ours.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.lab.root import REPOSITORY, LabError

MOOD = "calm"
"""What it writes into the new fields."""
_NAME_MARK = "-next"


def is_neighbour(worker: str) -> bool:
    """Whether that worker runs the other version."""
    return _NAME_MARK in worker


def neighbour(folder: Path) -> Path:
    """Write the next version's package `bridge` into that folder; returns the package."""
    package = folder / "bridge"
    shutil.copytree(
        REPOSITORY / "bridge", package, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True
    )
    _change(package / "media/slots.py", r"^VERSION = (\d+)$", _next)
    _change(package / "media/slots.py", '"n_underflow": ', '"n_starved": ')
    _change(package / "media/downlink.py", '"n_underflow"', '"n_starved"')
    _change(package / "sessions/model.py", "^    caller: str", '    mood: str = ""\n\\g<0>')
    _change(package / "call.py", "^            place=", f'            mood="{MOOD}",\n\\g<0>')
    _change(
        package / "sessions/progress.py", "^    turn: int = 0", f'\\g<0>\n    mood: str = "{MOOD}"'
    )
    _change(package / "worker.py", r"-\{secrets", f"{_NAME_MARK}{{secrets")
    return package


def _next(found: re.Match[str]) -> str:
    return f"VERSION = {int(found[1]) + 1}"


def _change(path: Path, what: str, to: str | Callable[[re.Match[str]], str]) -> None:
    text, times = re.subn(what, to, path.read_text(), flags=re.MULTILINE)
    if times < 1:
        raise LabError(f"{path} has no {what!r}: make the neighbouring version of something else")
    path.write_text(text)
