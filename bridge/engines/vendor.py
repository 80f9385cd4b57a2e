"""What every vendor's adapter needs: its SDK when it is used, its key, its errors in one line."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from collections.abc import Iterator
from types import ModuleType

from bridge.errors import EngineError, EngineLost, EngineMissing, EngineRefused


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


def refused(whose: str, status: int, key_env: str, said: str) -> EngineError:
    """The error for a request that was answered with this HTTP status."""
    if status in (401, 403):
        return EngineRefused(f"{whose} refuses the key in {key_env}: {said}")
    text = f"{whose} refuses with status {status}: {said}"
    return EngineRefused(text) if status < 500 else EngineError(text)


@contextlib.contextmanager
def errors(sdk: str, base: str, whose: str, key_env: str) -> Iterator[None]:
    """Translates the exceptions of OpenAI's SDK and of Anthropic's, whose names are the same (but
    for their `base`): both are made by the same generator."""
    import httpx2

    module = importlib.import_module(sdk)
    try:
        yield
    except (module.APIConnectionError, httpx2.HTTPError) as error:
        cause = error.__cause__ or error
        raise EngineLost(f"no connection to {whose}: {line(cause)}") from error
    except module.APIStatusError as error:
        raise refused(whose, error.status_code, key_env, line(error)) from error
    except getattr(module, base) as error:
        raise EngineError(f"{whose}: {line(error)}") from error
    # What is none of the API's words.
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(f"{whose} sent what can't be understood: {line(error)}") from error
