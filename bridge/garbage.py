"""What is over goes away at once, by counting references: the garbage collector stops all calls.

owner ──▶ part ──▷ owner's method      a part calls back `weakly`: the owner alone keeps it
task ──▶ error ──▶ frames ──▶ task     an error `Unframed` knows only where it was
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

_P = ParamSpec("_P")


def weakly(method: Callable[_P, None]) -> Callable[_P, None]:
    """The bound method, for who must not keep its object; where that is gone, nothing happens."""
    found = weakref.WeakMethod(method)

    def call(*args: _P.args, **named: _P.kwargs) -> None:
        there = found()
        if there is not None:
            there(*args, **named)

    return call


class Unframed:
    """`with Unframed():` what is raised within keeps no local variables alive.

    Where a task group ends with an error, the frame of its exit holds that error, which holds the
    frame (python/cpython#124392 is about that). Of an error that is awaited nobody wants them.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        traceback.clear_frames(trace)
