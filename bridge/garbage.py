"""What is over goes away at once, by counting references: the garbage collector stops all calls.

owner ──▶ part ──▷ owner's method      a part calls back `weakly`: the owner alone keeps it
task ──▶ error ──▶ frames ──▶ task     an error `Unframed` knows only where it was
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def weakly(method: Callable[Concatenate[_T, _P], None], owner: _T) -> Callable[_P, None]:
    """The method of its owner, for who must not keep him; once he is gone, nothing happens.

    Not `weakref.WeakMethod`: of its dozen objects each would be walked through with all others.
    """
    found = weakref.ref(owner)

    def call(*args: _P.args, **named: _P.kwargs) -> None:
        there = found()
        if there is not None:
            method(there, *args, **named)

    return call


class Unframed:
    """`with Unframed():` what is raised within keeps no local variables alive.

    Where a task group ends with an error, the frame of its exit holds that error, which holds the
    frame (gh-124958); so does the task that was cancelled. Nobody looks at those frames.
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
