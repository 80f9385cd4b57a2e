"""An Asterisk of the lab's own, beside whatever else runs on the host.

It has a temporary directory for all that it reads and writes, ports that the kernel chose, and
listens on loopback only. Its configuration is a folder of templates (asterisk-config/demo unless
told otherwise), in which `@NAME@` stands for what only a running lab knows, together with the very
fragments that an operator takes into an existing PBX (asterisk-config/*.conf).
"""

from __future__ import annotations

import base64
import http.client
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tests.lab.root import (
    REPOSITORY,
    LabError,
    free_port,
    free_range,
    is_private,
    own_addresses,
    program,
    system,
)
from tests.lab.server import Server

CONFIG = REPOSITORY / "asterisk-config"
# Files that Asterisk complains of when they are missing, and whose defaults are what we want.
_EMPTY = (
    *("acl", "ccss", "cel", "chan_websocket", "features", "manager", "pjproject", "stasis"),
    *("udptl", "websocket_client"),
)
_START_S = 40.0

Browser = Literal["test", "person"]


def operator_fragments() -> list[Path]:
    """The files that an operator adds to an existing PBX."""
    return sorted(CONFIG.glob("ari-bridge-*.conf"))


def directory_lines(base: Path) -> str:
    """What asterisk.conf's [directories] holds for an Asterisk that writes only below `base`."""
    places = {
        "astetcdir": base / "etc",
        "astvarlibdir": base / "lib",
        "astdbdir": base / "lib",
        "astkeydir": base / "lib",
        "astagidir": base / "lib",
        "astspooldir": base / "spool",
        "astrundir": base / "run",
        "astlogdir": base / "log",
    }
    if is_private(program("asterisk")):  # the host's own knows where its own are
        libraries = system("../lib").resolve()  # such as usr/lib/x86_64-linux-gnu
        places["astmoddir"] = libraries / "asterisk" / "modules"
        places["astdatadir"] = system("usr/share/asterisk").resolve()
    return "\n".join(f"{key} = {path}" for key, path in places.items())


class Asterisk(Server):
    """`with Asterisk() as pbx: pbx.ari_url` gives a PBX of your own, ready for calls.

    Extensions of the demo's templates: 700 and 701 agents `demo` and `echo`, 200 a human, 600
    Asterisk's own echo, 100 rings the softphone.

    Args:
        templates: folder of the configuration files.
        fragments: files that are put beside them.
        rtp_ports: size of the RTP port range; a SIP call takes two, external media two more.
        browser: whether one may call (ICE, which costs every call something), and where it is:
            a `test` stays on loopback, a `person` may need any of our addresses.
        realtime: whether it asks for real-time priority (`-p`), as Debian's service does.
        ari: whether the templates serve ARI from the start, so that it has to be waited for.
    """

    def __init__(
        self,
        *,
        templates: Path = CONFIG / "demo",
        fragments: Iterable[Path] | None = None,
        rtp_ports: int = 400,
        ari: bool = True,
        browser: Browser | None = None,
        realtime: bool = False,
    ) -> None:
        super().__init__("pbx")
        self._templates = templates
        self._fragments = list(operator_fragments() if fragments is None else fragments)
        self._rtp_ports = rtp_ports
        self._ari = ari
        self._browser = browser
        self._realtime = realtime
        self.bind = "127.0.0.1"
        self.ari_port = free_port()
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self.tls_port = free_port()
        self.wss_port = free_port()
        self.rtp_start = free_range(rtp_ports)
        self.ari_username = "ari-bridge"
        self.ari_password = secrets.token_hex(12)
        self.phone_password = secrets.token_hex(6)

    # ---- what callers and the bridge need to know ----

    @property
    def ari_url(self) -> str:
        return f"http://{self.bind}:{self.ari_port}"

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def log_path(self) -> Path:
        """Notices, warnings and errors."""
        return self.directory / "log" / "messages"

    @property
    def certificate(self) -> Path:
        """Of the TLS transport, self-signed for `localhost` and 127.0.0.1."""
        return self.directory / "keys" / "pbx.crt"

    @property
    def wss_url(self) -> str:
        """Where a browser's SIP goes; by TLS with that certificate."""
        return f"wss://{self.bind}:{self.wss_port}/ws"

    @property
    def version(self) -> str:
        """Such as `22.10.1+dfsg…`, said by the running Asterisk."""
        said = self.cli("core show version")
        found = re.match(r"Asterisk (\S+)", said)
        if found is None:
            raise LabError(f"Asterisk did not say its version but: {said.strip()[:100]}")
        return found.group(1)

    # ---- life ----

    def start(self) -> None:
        """Start it and wait until it is fully booted, and ARI answers where it should."""
        if self._make_directory():
            self._write()
        words = ["-f", "-n", *["-p"] * self._realtime]
        process = self._launch([*self._command(), *words])
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            if self._answers():
                return
            time.sleep(0.05)
        said = self.last_words()
        self.close()
        raise LabError(f"Asterisk did not start: {said}")

    # ---- asking it ----

    def cli(self, command: str) -> str:
        """What Asterisk's console says to `command`."""
        said = subprocess.run(
            [*self._command(), "-n", "-rx", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if said.returncode != 0:
            raise LabError(f"Asterisk did not take '{command}': {said.stderr.strip()[:200]}")
        return said.stdout

    def reload(self) -> None:
        """Read the whole configuration again, and wait until that is done."""
        self.cli("core reload")

    def channels(self) -> list[str]:
        """Names of all channels there are now, such as `PJSIP/caller-00000001`."""
        lines = self.cli("core show channels concise").splitlines()
        return [line.partition("!")[0] for line in lines if "!" in line]

    def bridges(self) -> list[str]:
        """Ids of all mixing bridges there are now."""
        lines = self.cli("bridge show all").splitlines()
        return [line.split()[0] for line in lines[1:] if line.strip()]

    def wait_idle(self, timeout_s: float = 5.0) -> list[str]:
        """Wait for every channel and mixing bridge to go; returns those that did not."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = self.channels() + self.bridges()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def ari_status(self) -> int:
        """The HTTP status that ARI gives to our user and password, 0 if it can't be reached."""
        connection = http.client.HTTPConnection(self.bind, self.ari_port, timeout=5)
        login = base64.b64encode(f"{self.ari_username}:{self.ari_password}".encode()).decode()
        try:
            connection.request(
                "GET",
                "/ari/asterisk/info?only=status",
                headers={"Authorization": f"Basic {login}"},
            )
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def last_words(self) -> str:
        """The last error that it logged, for a message of ours."""
        lines: list[str] = []
        for log in (self.directory / "console", self.log_path):
            if log.exists():
                lines += log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "ERROR" in line]
        return (errors or lines or ["it left no log"])[-1].strip()

    # ---- inside ----

    def _command(self) -> list[str]:
        return [str(program("asterisk")), "-C", str(self.etc / "asterisk.conf")]

    def _answers(self) -> bool:
        if not (self.directory / "run" / "asterisk.ctl").exists():
            return False
        try:
            if "fully booted" not in self.cli("core waitfullybooted"):
                return False
        except LabError:
            return False
        return not self._ari or self.ari_status() == 200

    def _write(self) -> None:
        """Fill the directory: configuration from the templates, and a certificate."""
        for name in ("etc", "run", "log", "spool", "lib", "lib/keys", "keys"):
            (self.directory / name).mkdir()
        self._make_certificate()
        values = self._values()

        def value(found: re.Match[str]) -> str:
            try:
                return values[found.group(1)]
            except KeyError:
                raise LabError(f"{template}: no value is known for {found.group()}") from None

        for template in sorted(self._templates.glob("*.conf")):
            if template.name == "rtp-loopback.conf" and self._browser == "person":
                continue
            text = re.sub(r"@([A-Z_]+)@", value, template.read_text())
            (self.etc / template.name).write_text(text)
        for name in _EMPTY:
            (self.etc / f"{name}.conf").touch()
        for fragment in self._fragments:
            shutil.copy(fragment, self.etc)

    def _values(self) -> dict[str, str]:
        base = self.directory
        return {
            "DIRECTORIES": directory_lines(base),
            "BIND": self.bind,
            "ADVERTISED_ADDRESS": self.bind,
            "ARI_PORT": str(self.ari_port),
            "ARI_PASSWORD": self.ari_password,
            "SIP_PORT": str(self.sip_port),
            "TLS_PORT": str(self.tls_port),
            "WSS_PORT": str(self.wss_port),
            "ICE": "yes" if self._browser else "no",
            "ICE_CANDIDATES": "\n".join(f"{ip} => 127.0.0.1" for ip in own_addresses()),
            "PHONE_PASSWORD": self.phone_password,
            "RTP_START": str(self.rtp_start),
            "RTP_END": str(self.rtp_start + self._rtp_ports - 1),
            "CERTIFICATE": str(self.certificate),
            "KEY": str(base / "keys" / "pbx.key"),
        }

    def _make_certificate(self) -> None:
        subprocess.run(
            [
                *(program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
                *("-days", "2", "-subj", "/CN=127.0.0.1"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", self.directory / "keys" / "pbx.key", "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
            timeout=30,
        )
