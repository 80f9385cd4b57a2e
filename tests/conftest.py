"""For every test: `kill` ends a run as Ctrl-C does, so that no server of the lab outlives it, and
what one sets up of logging is gone for the next.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

settings.register_profile("any-pace", deadline=None)  # a machine may stand still at any example
settings.load_profile("any-pace")


def pytest_configure(config: pytest.Config) -> None:
    """A CI that cuts a run short sends SIGTERM, which by itself runs no fixture's end."""
    spread = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    signal.signal(signal.SIGTERM, _interrupt_all if spread else signal.default_int_handler)


def _interrupt_all(number: int, frame: FrameType | None) -> None:
    """The same where the tests run in processes of their own: they would be killed in the end."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(pid), signal.SIGTERM)
    signal.default_int_handler(number, frame)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that runs a command of ours sets logging up as the command does."""
    loggers = logging.getLogger(), logging.getLogger("bridge")
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = [h for h in logger.handlers if type(h) is not logging.StreamHandler]
