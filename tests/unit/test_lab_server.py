"""A server of the lab's that is interrupted while it starts leaves nothing behind."""

from pathlib import Path

import pytest

from tests.lab.server import Server


class Slow(Server):
    """Interrupted by Ctrl-C, as it were, once its process runs."""

    def start(self) -> None:
        self._make_directory()
        self.place, self.child = self.directory, self._launch(["sleep", "60"])
        raise KeyboardInterrupt


def test_an_interrupted_start_leaves_nothing() -> None:
    server = Slow("slow")
    with pytest.raises(KeyboardInterrupt), server:
        pytest.fail("it never started")
    assert server.child.returncode is not None
    assert not Path(server.place).exists()
