"""For every test: `kill` ends a run as Ctrl-C does, so that no server of the lab outlives it."""

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A CI that cuts a run short sends SIGTERM, which by itself runs no fixture's end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
