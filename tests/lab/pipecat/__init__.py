"""Bots built with Pipecat, which we did not write, as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import wave
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.capture import RATE, Pcm
from tests.lab.root import REPOSITORY, LabError

PYTHON = REPOSITORY / ".lab-pipecat" / "bin" / "python"


class PipecatBot:
    """`with PipecatBot("talk", folder) as bot:`, then `bot.url`, `bot.events()`."""

    def __init__(self, mode: str, folder: Path, *, token: str = "") -> None:
        """A bot (bot.py says which) that writes into `folder`; `token` signs its calls."""
        if not PYTHON.exists():
            raise LabError("Pipecat isn't there: tests/lab/setup.sh bots")
        self._mode, self._folder, self._token = mode, folder, token

    def voice(self, name: str, pcm: Pcm) -> None:
        """What it says as `greeting` or `answer`; before it starts."""
        with wave.open(str(self._folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(pcm.astype("<i2").tobytes())

    def __enter__(self) -> Self:
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).parent / "bot.py"), self._mode, str(self._folder)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "TWILIO_AUTH_TOKEN": self._token},
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.__exit__(None, None, None)
            raise LabError(f"Pipecat's bot did not start: {self.log()[-500:]}")
        self.url = f"ws://127.0.0.1:{port}/ws"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """What it complained of."""
        return (self._folder / "log").read_text()

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What has happened so far; of that name only."""
        path = self._folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        return [event for event in events if name in ("", event["event"])]
