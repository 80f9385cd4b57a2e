"""What every vendor's adapter needs: its SDK when it is used, its key, its errors in one line."""

from __future__ import annotations

import asyncio
import importlib
import os
from types import ModuleType

from bridge.errors import EngineMissing


async def load(module: str, extra: str) -> ModuleType:
    """Import an SDK, which takes up to a second, in a thread. Raises `EngineMissing`."""
    try:
        return await asyncio.to_thread(importlib.import_module, module)
    except ModuleNotFoundError as error:
        raise EngineMissing(
            f"this needs the extra '{extra}': pip install 'ari-bridge[{extra}]' "
            f"(no module {error.name})"
        ) from error


def key(name: str, whose: str) -> str:
    """The key in the environment variable `name`. Raises `EngineMissing`."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise EngineMissing(f"{whose} needs a key: set the environment variable {name}")
    return value


def line(error: BaseException) -> str:
    """The first line of what an SDK's exception says."""
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
