"""Why engines are lost, counted: what an operator wants to be told of before callers tell him.

missing   its extra, model or key isn't there            refused   the far end says no: a wrong key
lost      no connection, or it broke                     silent    it owed something, and hung
late      it wasn't ready in time                        wild      it gave audio without end
failed    anything else that it raised or said
"""

from __future__ import annotations

from collections import Counter

from bridge.errors import EngineLost, EngineMissing, EngineRefused

count: Counter[tuple[str, str]] = Counter()
"""Of this process since it began, by the engine's name and the kind of fault. What the worker says
of itself in Redis has it as well (`told`)."""

_KINDS = ((EngineMissing, "missing"), (EngineRefused, "refused"), (EngineLost, "lost"))


def kind(error: BaseException) -> str:
    """The kind of fault that an exception tells of; of a group, of its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return next((name for cls, name in _KINDS if isinstance(error, cls)), "failed")


def told() -> dict[str, int]:
    """`count`, by "engine kind"."""
    return {f"{engine} {kind}": n for (engine, kind), n in count.items()}
