"""The units for systemd: known to it, hardened, and of one mind with the bridge."""

import re
import shlex
import shutil
import subprocess

import pytest

from bridge.cli import _parser
from bridge.launcher import _STOP_S
from bridge.media.settings import MediaSettings
from tests.lab.root import REPOSITORY
from tests.lab.services import COMMAND, CONFIG, UNITS, keys

SERVICES = sorted(UNITS.glob("*.service"))
HARDENED = {
    "User": "ari-bridge",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateDevices": "yes",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
}


def command(file):
    """The bridge's command of a unit, and what it says."""
    (words,) = keys(file)["Service"]["ExecStart"]
    return shlex.split(words)


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_it_starts_what_there_is(file):
    words = command(file)
    assert words[0] == COMMAND
    assert str(_parser().parse_args(words[1:]).config) == CONFIG


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_it_is_not_root_and_may_do_little(file):
    service = keys(file)["Service"]
    assert {name: service[name][-1] for name in HARDENED} == HARDENED
    assert service["Restart"] == ["always"]
    assert keys(file)["Unit"]["StartLimitIntervalSec"] == ["0"]  # it is never given up


def test_all_that_the_launcher_starts_has_one():
    """But for who speaks with nobody: `run` itself starts no other kind of process."""
    there = {command(file)[1] for file in SERVICES}
    assert set(_STOP_S) <= there
    for file in SERVICES:
        kind = command(file)[1]
        (stop_s,) = keys(file)["Service"]["TimeoutStopSec"]
        assert float(stop_s) > _STOP_S[kind], "it would be killed while it ends in order"


def test_everything_belongs_to_the_target():
    for file in SERVICES:
        assert keys(file)["Install"]["WantedBy"] == ["ari-bridge.target"]
        assert keys(file)["Unit"]["PartOf"] == ["ari-bridge.target"]
    (worker,) = (file for file in SERVICES if "worker" in file.name)
    assert "ari-bridge-media@1.service" in keys(worker)["Unit"]["After"][0]  # stopped before it


def test_the_slots_are_where_the_sandbox_lets_them_be():
    """/dev/shm is the host's own under PrivateDevices, and not read-only under ProtectSystem."""
    assert MediaSettings().runtime_dir.startswith("/dev/shm/")


def test_the_user_is_made():
    (line,) = re.findall(r"(?m)^u .*", (UNITS / "ari-bridge.sysusers").read_text())
    assert line.split()[1] == HARDENED["User"]


def test_the_documents_name_every_unit():
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    assert [file.name for file in UNITS.iterdir() if file.stem not in text] == []


def test_systemd_itself_has_no_complaint(tmp_path):
    """Where systemd is installed it reads them; `make test` needs none, and then their keys are
    those that it has once read without complaint."""
    root = tmp_path / "root"
    units = root / "etc/systemd/system"
    shutil.copytree(UNITS, units)
    for name in ("sysinit", "basic", "shutdown", "multi-user", "network-online", "system"):
        kind = "slice" if name == "system" else "target"
        (units / f"{name}.{kind}").write_text("[Unit]\nDescription=a stand-in\n")
    (units / "-.slice").write_text("[Unit]\nDescription=a stand-in\n")
    for path in (COMMAND, "/bin/kill"):
        program = root / path.lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    names = []
    for file in SERVICES:
        name = file.name.replace("@.", "@1.")
        if name != file.name:
            (units / name).symlink_to(file.name)
        names.append(name)
    assert len(names) >= 4
    if program := shutil.which("systemd-analyze"):
        words = [program, f"--root={root}", "verify", "--man=no", *names, "ari-bridge.target"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        ours = [line for line in done.stderr.splitlines() if "ari-bridge" in line]
        assert (ours, done.returncode) == ([], 0), done.stderr
