"""ari-bridge in a FreePBX: three files of the administrator's, which the GUI never writes.

tests/data/freepbx has the files as FreePBX lays them out; no FreePBX itself runs here.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.agent import Agent, TransferSettings
from bridge.check import pbx, rtp
from bridge.media.settings import MediaSettings
from bridge.pbx.settings import AsteriskSettings
from tests.lab import sipp
from tests.lab.asterisk import CONFIG, Asterisk
from tests.lab.root import REPOSITORY, free_port

FREEPBX = REPOSITORY / "tests" / "data" / "freepbx"
OURS = CONFIG / "freepbx"


def take_in(server: Asterisk) -> None:
    """What docs/pbx.md tells an administrator to do."""
    for name in ("ari-bridge-ari.conf", "ari-bridge-extensions.conf"):
        shutil.copy(CONFIG / name, server.etc)
    user = server.etc / "ari-bridge-ari.conf"
    user.write_text(user.read_text().replace("= change-me", f"= {server.ari_password}"))
    for file in sorted(OURS.glob("*_custom.conf")):
        with (server.etc / file.name).open("a") as custom:
            custom.write("\n" + file.read_text())
    server.reload()


def apply_config(server: Asterisk) -> None:
    """The GUI writes all that is its own anew."""
    for file in FREEPBX.glob("*.conf"):
        if not file.name.endswith("_custom.conf") and "@" not in file.read_text():
            shutil.copy(file, server.etc)
    server.reload()


@pytest.fixture
def server() -> Iterator[Asterisk]:
    with Asterisk(templates=FREEPBX, fragments=(), ari=False) as server:
        yield server


async def test_taken_in_it_serves_and_outlives_what_the_gui_writes(
    server: Asterisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtp, "PACKETS", 20)
    assert server.ari_status() == 401
    take_in(server)
    apply_config(server)
    assert server.ari_status() == 200
    settings = AsteriskSettings(url=server.ari_url, password=server.ari_password)
    media = MediaSettings(port=free_port(socket.SOCK_DGRAM), runtime_dir=str(tmp_path / "run"))
    agent = Agent("demo", transfer=TransferSettings(extensions=("200",)))
    found = {one.check: one for one in await pbx.findings(settings, media, [agent])}
    assert [one.line for one in found.values() if one.state != "ok"] == []
    # What phones dial, and where a caller goes on whom no agent serves.
    for number in ("700", "200"):
        assert f"'{number}'" in server.cli(f"dialplan show {number}@from-internal")
    assert "ARI_BRIDGE_FALLBACK=from-internal,200,1" in server.cli("dialplan show globals")
    call = sipp.call(server, "200", hang_up_after_s=1.0)
    assert call.loudest_hz() == pytest.approx(1004, abs=10)
    assert server.wait_idle() == []


def test_only_files_of_the_administrators_are_touched() -> None:
    """Those that end with _custom: the GUI makes them once, empty, and never writes them."""
    names = {file.name for file in OURS.iterdir()}
    assert all(name.endswith("_custom.conf") and (FREEPBX / name).is_file() for name in names)
