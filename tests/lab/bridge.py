"""The bridge itself as a user runs it: `ari-bridge run` with a configuration file of its own."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.media.settings import MediaSettings
from tests.lab.asterisk import Asterisk
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, LabError, free_port
from tests.lab.server import Server

_START_S = 60.0  # speech models are loaded before the first call is taken
STASIS_APP = "ari-bridge"

Table = Mapping[str, object]
Settings = Mapping[str, Table | Sequence[Table]]

ONE_WORKER = ("--workers", "1")


class Bridge(Server):
    """`with Bridge(pbx, redis) as bridge:` gives a bridge that takes that Asterisk's calls.

    Args:
        settings: tables and keys of bridge.toml that differ from what the lab gives by itself.
        options: more words for the command line; `()` for as many workers as an operator gets.
        environment: variables beyond our own.
        prefix: words before the command line, such as those that enter a network namespace.
    """

    def __init__(
        self,
        pbx: Asterisk,
        redis: Redis,
        *,
        settings: Settings | None = None,
        options: Sequence[str] = ONE_WORKER,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__("bridge")
        self._prefix = prefix
        self._options, self._environment = options, environment or {}
        self._pbx, self._redis = pbx, redis
        self._settings = settings or {}
        self.media_port = free_port(socket.SOCK_DGRAM)
        # In memory, as by default: slots on a disk are held up whenever it is written to.
        self.runtime_dir = Path(f"{MediaSettings().runtime_dir}-lab-{secrets.token_hex(4)}")

    def start(self) -> None:
        """Start it and wait until Asterisk would hand it a call."""
        if self._make_directory():
            (self.directory / "bridge.toml").write_text(to_toml(self._config()))
        command: list[object] = [*self._prefix, sys.executable, "-m", "bridge", "run"]
        command += ["--config", self.directory / "bridge.toml", *self._options]
        process = self._launch(command, self._environment)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            if self._takes_calls():
                return
            time.sleep(0.1)
        said = self.log().strip().splitlines()
        self.close()
        raise LabError(f"the bridge did not start: {said[-1] if said else 'it said nothing'}")

    def close(self) -> None:
        """Stop it in order: killed, it would leave its children behind, who are to survive it."""
        self.stop()
        super().close()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)

    def command(self, *words: str) -> str:
        """Run `ari-bridge WORDS` with this bridge's configuration; gives what it says.

        Raises:
            LabError: with what it says on stderr.
        """
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words, "--config", self.directory / "bridge.toml"],
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise LabError(f"ari-bridge {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def children(self, name: str) -> list[int]:
        """The process ids of its `media` or `worker` processes, in the order of their start.

        Known by their configuration, not by their parent: they may outlive the launcher.
        """
        found: dict[int, tuple[int, int]] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if name in words and str(self.directory / "bridge.toml") in words:
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    found[int(entry.name)] = int(stat[19]), int(stat[1])
        # A child that one of them is about to start looks like its parent.
        own = [(began, pid) for pid, (began, parent) in found.items() if parent not in found]
        return [pid for _, pid in sorted(own)]

    def serving(self) -> int:
        """The process id of the media process that serves; the other one stands by."""
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) != self.media_port:
                continue
            for pid in self.children("media"):
                for handle in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):
                        if str(handle.readlink()) == f"socket:[{fields[9]}]":
                            return pid
        raise LabError("nobody serves the media port")

    def child(self, name: str) -> int:
        """The process id of its `media` or `worker`."""
        if name == "media":
            return self.serving()
        for pid in self.children(name):
            return pid
        raise LabError(f"the bridge has no {name} process")

    def log(self) -> str:
        """What it has said on the terminal so far."""
        return (self.directory / "console").read_text(errors="replace")

    def _config(self) -> Settings:
        tables: dict[str, Table | Sequence[Table]] = {
            "asterisk": asterisk(self._pbx),
            "media": {
                "listen_address": "127.0.0.1",
                "port": self.media_port,
                "runtime_dir": str(self.runtime_dir),
            },
            "redis": {"url": self._redis.url},
            "agents": {"folder": str(REPOSITORY / "agents")},
        }
        for name, keys in self._settings.items():
            given = tables.get(name, {})
            several = not (isinstance(keys, Mapping) and isinstance(given, Mapping))
            tables[name] = keys if several else {**given, **keys}
        return tables

    def _takes_calls(self) -> bool:
        """Whether Asterisk knows a Stasis application of that name with somebody connected."""
        login = f"{self._pbx.ari_username}:{self._pbx.ari_password}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        connection = http.client.HTTPConnection(self._pbx.bind, self._pbx.ari_port, timeout=5)
        try:
            connection.request("GET", f"/ari/applications/{STASIS_APP}", headers=headers)
            return connection.getresponse().status == 200
        except OSError as error:
            raise LabError(f"Asterisk's ARI is gone: {error}") from error
        finally:
            connection.close()


def asterisk(pbx: Asterisk, **more: object) -> Table:
    """The keys of `[asterisk]` for that one, and `more`."""
    login = {"username": pbx.ari_username, "password": pbx.ari_password}
    return {"url": pbx.ari_url, **login, **more}


def to_toml(tables: Settings) -> str:
    """Tables of texts, numbers, booleans and lists of them; JSON writes those as TOML does."""
    lines: list[str] = []
    for name, content in tables.items():
        several = not isinstance(content, Mapping)
        for keys in content if several else [content]:
            lines.append(f"[[{name}]]" if several else f"[{name}]")
            lines += [
                *(
                    f"{key} = {json.dumps(value() if callable(value) else value)}"
                    for key, value in keys.items()
                ),
                "",
            ]
    return "\n".join(lines)
