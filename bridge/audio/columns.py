"""State of many calls as a struct of arrays: one numpy array a field, one row a call.

A pure module declares the fields that it keeps for each call as a `Spec`, and works on whatever
arrays it is given: plain ones in a test, views of the shared map in the media process. So all that
a successor needs is in the map without any module knowing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Column(NamedTuple):
    """One field: what each call's row holds, and what it holds for a call that has just begun."""

    dtype: str
    default: float = 0
    shape: tuple[int, ...] = ()


Spec = Mapping[str, Column]
Columns = Mapping[str, NDArray[Any]]


def heap(spec: Spec, calls: int) -> dict[str, NDArray[Any]]:
    """Arrays in plain memory, every row at its defaults."""
    return {name: np.full((calls, *c.shape), c.default, dtype=c.dtype) for name, c in spec.items()}


def reset(spec: Spec, columns: Columns, call: int) -> None:
    """Put a call's row back to the defaults."""
    for name, column in spec.items():
        columns[name][call] = column.default
