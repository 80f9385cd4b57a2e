"""The fragments in a PBX that somebody else configured: taken in, in use, and out without a trace.

tests/data/existing-pbx is the PBX as its operator left it. What an operator does, and all that they
do, is in `take_in` and `take_out`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import sipp
from tests.lab.asterisk import Asterisk, operator_fragments
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY

OLD_TONE_HZ = 1004  # Milliwatt()
# Answer() waits up to 500 ms for the caller's first packet, which SIPp never sends.
LISTEN_S = 1.2
EXISTING = REPOSITORY / "tests" / "data" / "existing-pbx"


def home(fragment: Path) -> str:
    """The file that takes it in."""
    name = fragment.name.removeprefix("ari-bridge-")
    return "pjsip.conf" if name in ("trunk.conf", "webrtc.conf") else name


def take_in(pbx: Asterisk) -> None:
    """Put the fragments into the configuration: files beside, one line in each existing file."""
    for fragment in operator_fragments():
        shutil.copy(fragment, pbx.etc)
        existing = pbx.etc / home(fragment)
        line = f"#include {fragment.name}\n"
        text = existing.read_text()
        if existing.name == "extensions.conf":  # the last line of the phones' context
            head, context, rest = text.partition("[office]\n")
            body, following, after = rest.partition("\n[")
            text = f"{head}{context}{body.rstrip()}\n{line}{following}{after}"
        else:
            text += line
        existing.write_text(text)
    ours = pbx.etc / "ari-bridge-ari.conf"
    ours.write_text(ours.read_text().replace("= change-me", f"= {pbx.ari_password}"))


def take_out(pbx: Asterisk) -> None:
    """Delete the line from each file, and the fragments."""
    for fragment in operator_fragments():
        existing = pbx.etc / home(fragment)
        line = f"#include {fragment.name}\n"
        existing.write_text(existing.read_text().replace(line, ""))
        (pbx.etc / fragment.name).unlink()


@pytest.fixture
def existing_pbx() -> Iterator[Asterisk]:
    with Asterisk(templates=EXISTING, fragments=(), ari=False) as pbx:
        yield pbx


@pytest.fixture
def taken_in(existing_pbx: Asterisk) -> Asterisk:
    """An existing PBX that has taken our fragments in and reloaded."""
    take_in(existing_pbx)
    existing_pbx.reload()
    return existing_pbx


def assert_old_extension_works(pbx: Asterisk) -> None:
    call = sipp.call(pbx, "10", hang_up_after_s=LISTEN_S)
    assert call.answered, call.said
    assert call.ended_as_expected, call.said
    assert call.loudest_hz() == pytest.approx(OLD_TONE_HZ, abs=10)


def test_taken_in_and_out_again_nothing_of_the_old_pbx_changes(
    existing_pbx: Asterisk, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(existing_pbx.etc, before)
    assert_old_extension_works(existing_pbx)
    assert not sipp.call(existing_pbx, "700").answered
    assert existing_pbx.ari_status() == 0

    take_in(existing_pbx)
    existing_pbx.reload()
    assert_old_extension_works(existing_pbx)
    assert existing_pbx.ari_status() == 200
    assert "700" in existing_pbx.cli("dialplan show 700@office")

    take_out(existing_pbx)
    existing_pbx.reload()
    difference = subprocess.run(
        ["diff", "-r", before, existing_pbx.etc], capture_output=True, text=True, check=False
    )
    assert (difference.returncode, difference.stdout) == (0, "")
    assert_old_extension_works(existing_pbx)
    assert not sipp.call(existing_pbx, "700").answered
    assert existing_pbx.ari_status() == 0
    assert existing_pbx.wait_idle() == []


def test_the_new_extension_talks_and_the_old_one_works_beside_it(
    taken_in: Asterisk, redis: Redis
) -> None:
    with Bridge(taken_in, redis, options=()) as bridge:  # as an operator starts it
        call = sipp.call(taken_in, "700", hang_up_after_s=3.0)
        assert call.answered, call.said
        assert call.ended_as_expected, call.said
        assert 80 < call.loudest_hz() < 1000, bridge.log()  # the agent's greeting
        assert_old_extension_works(taken_in)
        assert taken_in.wait_idle() == []


def test_a_number_that_the_pbx_has_itself_stays_its_own(taken_in: Asterisk) -> None:
    call = sipp.call(taken_in, "701", hang_up_after_s=LISTEN_S)
    assert call.loudest_hz() == pytest.approx(440, abs=10)


def complaints(pbx: Asterisk) -> set[str]:
    """What a reload logs as warning or error, without time and thread."""
    already = len(pbx.log_path.read_text())
    pbx.reload()
    pbx.cli("module load no-such-module")  # the log is written in order: this is its last line
    deadline = time.monotonic() + 10
    while "no-such-module" not in (said := pbx.log_path.read_text()[already:]):
        assert time.monotonic() < deadline, "Asterisk logged nothing"
        time.sleep(0.02)
    lines = (re.search(r"(?:WARNING|ERROR)\[\d+\] (.*)", line) for line in said.splitlines())
    return {line.group(1) for line in lines if line}


def test_taking_the_fragments_in_logs_no_error(existing_pbx: Asterisk) -> None:
    before = complaints(existing_pbx)
    take_in(existing_pbx)
    assert complaints(existing_pbx) - before == set()
