"""The media process and workers, started as the demo starts them, each on a core of our choice."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bridge.media import control
from bridge.media.settings import MediaSettings
from tests.bench.generator import Destination
from tests.bench.machine import cores, on_core
from tests.bench.worker import Task
from tests.lab.bridge import to_toml
from tests.lab.root import REPOSITORY, LabError, free_port

_START_S = 20.0


class Media:
    """The media process: `with Media(calls) as media:`."""

    def __init__(self, calls: int) -> None:
        """Room for `calls`; all else as an operator has it who sets nothing."""
        # On the file system that an operator's default is on.
        parent = Path(MediaSettings().runtime_dir).parent
        self._folder = tempfile.TemporaryDirectory(prefix="ari-bench-media-", dir=parent)
        folder = Path(self._folder.name)
        self.runtime_dir = folder / "run"
        self.slots_file = self.runtime_dir / control.SLOTS
        self.address: Destination = ("127.0.0.1", free_port(socket.SOCK_DGRAM))
        config = {
            "media": {
                "listen_address": self.address[0],
                "port": self.address[1],
                "runtime_dir": str(self.runtime_dir),
                "max_calls": calls,
            },
            "asterisk": {"url": "http://127.0.0.1:1", "username": "bench", "password": "bench"},
        }
        (folder / "bridge.toml").write_text(to_toml(config))
        self._log = (folder / "log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "media", "--config", str(folder / "bridge.toml")],
            stdout=self._log,
            stderr=self._log,
            cwd=REPOSITORY,
            preexec_fn=on_core(cores()[0]),
        )
        deadline = time.monotonic() + _START_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log().strip().splitlines()
                self.close()
                raise LabError(f"the media process did not start: {said[-1] if said else '?'}")
            time.sleep(0.05)
        self.layout = slots_layout(self.slots_file)

    def _listens(self) -> bool:
        if not self.slots_file.exists():
            return False
        probe = control.new_socket()
        try:
            probe.connect(str(control.socket_path(self.runtime_dir)))
        except OSError:
            return False
        else:
            return True
        finally:
            probe.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """What it said."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()


class Worker:
    """A worker of the bench: `with Worker(media, task) as worker:`."""

    def __init__(self, media: Media, task: Task, core: int | None = None) -> None:
        """Start it, on the media process' core unless told otherwise."""
        task = dataclasses.replace(task, runtime_dir=str(media.runtime_dir))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker", json.dumps(dataclasses.asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            preexec_fn=on_core(cores()[0] if core is None else core),
        )
        self._expect("ready")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def speak(self, count: int) -> None:
        """Have it play single frames; returns when they are played."""
        self._tell(f"speak {count}")
        self._expect("spoken")

    def end(self) -> None:
        """Have it write what it recorded, and leave."""
        self._tell("end")
        self._expect("ended")
        self._process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _tell(self, line: str) -> None:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        stdin.write(line + "\n")
        stdin.flush()

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != word:
            raise LabError(f"the bench's worker did not come to '{word}' (it said {said!r})")


def slots_layout(path: Path) -> dict[str, Any]:
    """The description at the beginning of the slots' file (see bridge/media/slots.py)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(16)[12:], "little")
        found: dict[str, Any] = json.loads(file.read(length))
    return found
