"""What the lab's servers have in common: a process and a directory of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_S = 15.0


class Server(ABC):
    """A server with a temporary directory, started and ended in order.

    `with` starts it and leaves nothing behind. Without `with`: `start()`, and at last `close()`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """Its own directory, from the first start until `close()`."""
        assert self._directory is not None, "not started"
        return self._directory

    @property
    def pid(self) -> int:
        """Of the server itself: signals sent to it reach the program."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit status (below 0: by that signal), if it has ended by itself."""
        assert self._process is not None, "not started"
        return self._process.poll()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # Ctrl-C while it starts: nobody else would end it
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it serves; LabError if it does not."""

    def stop(self) -> None:
        """End it in order. Its directory stays for `start()`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9` it."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start, on the same ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it at once, for nothing of it is kept, and remove every file of its."""
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def _make_directory(self) -> bool:
        """Make the directory; False if it is there from an earlier start."""
        if self._directory is not None:
            return False
        self._directory = Path(tempfile.mkdtemp(prefix=f"ari-bridge-{self._name}-"))
        return True

    def _launch(
        self, command: Sequence[object], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the process; what it prints goes to `console` in its directory."""
        with (self.directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                # the terminal's Ctrl-C is for us alone, who then stop it in order
                start_new_session=True,
            )
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)  # does nothing where it has ended by itself
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
