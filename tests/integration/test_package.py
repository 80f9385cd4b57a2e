"""What is published: built from this checkout, installed where there is no checkout, and run."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bridge import __version__
from tests.lab.root import REPOSITORY


def run(*words: object, cwd: Path) -> str:
    """What a command says; nothing of the checkout is on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=REPOSITORY)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=root)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it depends on comes from ours."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install"]
    options = ["-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(*pip, *options, wheel, cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    # A path is all that this adds: our own editable install is not followed.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return place


def tracked(folder: str, *suffixes: str) -> set[str]:
    """The files of a folder, below it, as they are in the checkout."""
    return {
        str(path.relative_to(REPOSITORY / folder))
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
        if not suffixes or path.suffix in suffixes
    }


def test_the_wheel_holds_all_that_runs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"bridge/{one}" for one in tracked("bridge")} <= names
    assert {f"bridge/agents/{one}" for one in tracked("agents")} <= names
    share = f"ari_bridge-{__version__}.data/data/share/ari-bridge"
    for folder in ("asterisk-config", "observability", "systemd"):
        assert {f"{share}/{folder}/{one}" for one in tracked(folder)} <= names
    assert f"ari_bridge-{__version__}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_the_sdist_holds_what_is_needed_to_test_it(built: Path) -> None:
    (root,) = (built / "unpacked").iterdir()
    for name in ("Makefile", "requirements.lock", "README.md", "LICENSE", "CHANGELOG.md"):
        assert (root / name).is_file(), name
    for folder in ("tests", "docs"):
        lost = {
            one
            for one in tracked(folder, ".py", ".md", ".json")
            if not (root / folder / one).exists()
        }
        assert not lost, folder
    assert not (root / ".venv").exists()


def test_it_runs_where_there_is_no_checkout(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "ari-bridge"
    assert run(command, "--version", cwd=tmp_path) == f"ari-bridge {__version__}\n"
    code = "import bridge, bridge.config as c; print(bridge.__file__, c.load(None).agents.folder)"
    (tmp_path / "bridge.toml").write_text("[redis]\nkeep_ended_s = 60\n")
    for said in run(installed / "bin" / "python", "-c", code, cwd=tmp_path).split():
        assert Path(said).is_relative_to(installed), said
    shown = run(command, "config", cwd=tmp_path)
    assert "keep_ended_s = 60" in shown
    assert run(command, "config", "--schema", "agent", cwd=tmp_path).startswith("{")
    page = "from bridge.web.page import STATIC; print((STATIC / 'index.html').read_text())"
    assert "<title>" in run(installed / "bin" / "python", "-c", page, cwd=tmp_path)
    assert (installed / "share/ari-bridge/asterisk-config/ari-bridge-extensions.conf").is_file()


def test_a_newcomer_is_told_what_is_missing(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "bin" / "ari-bridge", "run"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "name one with --config, or make bridge.toml" in done.stderr
