"""The tool `count`: its effect is a line in a file, half-way through the second that it takes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

FILE = "ARI_BRIDGE_DRILL_TOOLS"
"""Names the file."""
HALF_S = 0.5


async def count(call: Any, **arguments: Any) -> str:
    """The entry point. Written down is the caller who has asked for it, and knows how often."""
    await asyncio.sleep(HALF_S)
    with Path(os.environ[FILE]).open("a") as file:
        file.write(f"{call.caller_number}\n")
    await asyncio.sleep(HALF_S)
    return "counted"
