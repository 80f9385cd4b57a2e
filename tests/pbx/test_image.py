"""The start script of the container image, run with a real Asterisk in place of the container."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.asterisk import CONFIG, directory_lines
from tests.lab.root import free_port, free_range, program

START = CONFIG / "demo" / "start.sh"


def environment(directory: Path) -> dict[str, str]:
    """What docker-compose.yml sets, with ports and directories of our own."""
    image = directory / "image"  # what the Dockerfile copies
    image.mkdir()
    for file in (*CONFIG.glob("ari-bridge-*.conf"), *(CONFIG / "demo").glob("*.conf")):
        if not file.name.endswith("-loopback.conf"):
            (image / file.name).write_text(file.read_text())
    (directory / "etc").mkdir()
    ports = {
        "ARI_PORT": free_port(),
        "SIP_PORT": free_port(socket.SOCK_DGRAM),
        "TLS_PORT": free_port(),
        "WSS_PORT": free_port(),
        "RTP_START": (rtp := free_range(100)),
        "RTP_END": rtp + 99,
    }
    return {
        **{name: str(port) for name, port in ports.items()},
        "PATH": f"{program('asterisk').parent}:{program('openssl').parent}:{os.environ['PATH']}",
        "TEMPLATES": str(image),
        "ETC": str(directory / "etc"),
        "BIND": "127.0.0.1",
        "ADVERTISED_ADDRESS": "127.0.0.1",
        "ARI_PASSWORD": r"odd/|&\1 signs",
        "PHONE_PASSWORD": "secret",
        "ICE": "no",
    }


def ari_status(port: int, password: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    login = base64.b64encode(f"ari-bridge:{password}".encode()).decode()
    try:
        connection.request("GET", "/ari/asterisk/info", headers={"Authorization": f"Basic {login}"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_the_images_start_script_makes_a_working_pbx(tmp_path: Path) -> None:
    given = environment(tmp_path)
    given["DIRECTORIES"] = directory_lines(tmp_path)
    for name in ("run", "log", "spool", "lib"):
        (tmp_path / name).mkdir()
    with (tmp_path / "console").open("wb") as console:
        process = subprocess.Popen(
            ["sh", START], env=given, stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        deadline = time.monotonic() + 30
        while ari_status(int(given["ARI_PORT"]), given["ARI_PASSWORD"]) != 200:
            assert process.poll() is None, (tmp_path / "console").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        said = subprocess.run(
            [
                program("asterisk"),
                "-C",
                tmp_path / "etc" / "asterisk.conf",
                "-rx",
                "pjsip show endpoints",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "phone/phone" in said
        assert "secure/secure" in said
        assert "caller" not in said  # nobody without a password
    finally:
        process.terminate()
        process.wait(timeout=15)


def test_a_value_that_is_missing_is_named(tmp_path: Path) -> None:
    given = environment(tmp_path)
    del given["PHONE_PASSWORD"]
    done = subprocess.run(["sh", START], env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no value in the environment for PHONE_PASSWORD" in done.stderr


@pytest.mark.parametrize("name", ["SIP_PORT", "ARI_PASSWORD"])
def test_values_reach_the_configuration_to_the_letter(tmp_path: Path, name: str) -> None:
    given = environment(tmp_path)
    stub = tmp_path / "bin"
    stub.mkdir()
    (stub / "asterisk").write_text("#!/bin/sh\n")
    (stub / "asterisk").chmod(0o755)
    given["PATH"] = f"{stub}:{given['PATH']}"
    subprocess.run(["sh", START], env=given, check=True, capture_output=True)
    written = "".join(file.read_text() for file in (tmp_path / "etc").glob("*.conf"))
    assert given[name] in written
    assert f"@{name}@" not in written
