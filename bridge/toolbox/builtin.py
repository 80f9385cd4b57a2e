"""Tools that come with the bridge, for agents whose `tools` name them.

    remember       keeps something for the whole call: in each prompt from then on, also after a
                   takeover, and when the conversation has become too long to be read as a whole
    get_variable   channel variables and dialplan functions of the caller's channel, those that
    set_variable   the agent's `[variables]` allow; the dialplan reads them when it goes on
    outcome        what the caller wanted and what came of it: the dialplan reads that as well
    send_dtmf      presses keys, for a menu on the other side
    pause_recording    what is said from then on isn't recorded, nor written down, such as a card's
    resume_recording   number; until it is resumed

What a model says becomes a value and never a name, so nothing of it is evaluated by Asterisk here.
A dialplan that uses such a value treats it as it does what a caller types.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from bridge.agent import VariableSettings
from bridge.errors import ToolError
from bridge.toolbox import schema
from bridge.toolbox.base import INTENT, SUMMARY, Function, ToolContext

MOST_NOTES = 30
MOST_NAME, MOST_VALUE = 60, 500
"""Characters."""
KEY_S = 0.2
"""How long a key takes: Asterisk's 100 ms of tone and 100 ms of pause."""

_KEYS = re.compile(r"[0-9A-D*#]{1,32}")


def made(name: str, variables: VariableSettings) -> Function:
    """The tool of that name."""
    match name:
        case "remember":
            return remember
        case "outcome":
            return outcome
        case "get_variable":
            return GetVariable(variables.read)
        case "set_variable":
            return SetVariable(variables.write)
        case "pause_recording":
            return pause_recording
        case "resume_recording":
            return resume_recording
        case _:
            return send_dtmf


async def remember(
    call: ToolContext,
    *,
    name: Annotated[str, "What it is, such as: order number"],
    value: Annotated[str, "What to remember; empty: forget it"],
) -> str:
    """Remember something that the caller has told you, for the rest of the call."""
    name, value = _line(name, MOST_NAME), _line(value, MOST_VALUE)
    if not name:
        raise ToolError("the argument 'name' is empty")
    if not value:
        call.notes.pop(name, None)
        return "forgotten"
    if name not in call.notes and len(call.notes) == MOST_NOTES:
        raise ToolError(f"there are {MOST_NOTES} notes already: forget one, or change one")
    call.notes[name] = value
    return "noted"


remember.again = True  # type: ignore[attr-defined]


async def outcome(
    call: ToolContext,
    *,
    intent: Annotated[str, "What the caller wants, in one or two words, such as: order status"],
    summary: Annotated[str, "What came of it, in one sentence"] = "",
) -> str:
    """Note what the caller wants and what came of it. Do so before you end or transfer the call,
    and again when it changes."""
    told = {INTENT: _line(intent, MOST_NAME), SUMMARY: _line(summary, MOST_VALUE)}
    for name, value in told.items():
        call.notes[name] = value
        # At once, because he may hang up any time.
        await call.line.set_variable(f"ARI_BRIDGE_{name.upper()}", value)
    return "noted"


outcome.again = True  # type: ignore[attr-defined]


async def send_dtmf(
    call: ToolContext, *, digits: Annotated[str, "Of 0-9, * and #, up to 32; such as 2 or 4711#"]
) -> str:
    """Press keys on the telephone, such as to choose from the other side's menu."""
    digits = digits.replace(" ", "").upper()
    if not _KEYS.fullmatch(digits):
        raise ToolError(f"'digits' takes 1 to 32 of 0-9, * and #, not {digits!r:.80}")
    await call.line.send_dtmf(digits)
    await asyncio.sleep(len(digits) * KEY_S)  # what is said next comes after them
    return "pressed"


async def pause_recording(call: ToolContext) -> str:
    """Stop recording the call, before the caller says something that must not be recorded, such as
    the number of a credit card."""
    return "paused" if call.recording is not None and call.recording.pause() else _NOT_RECORDED


async def resume_recording(call: ToolContext) -> str:
    """Record the call again."""
    going = call.recording is not None and call.recording.resume()
    return "the call is recorded again" if going else _NOT_RECORDED


_NOT_RECORDED = "the call is not recorded"
pause_recording.again = resume_recording.again = True  # type: ignore[attr-defined]


class GetVariable:
    """`get_variable`, of these names."""

    again = True
    description = "What the telephone system knows of this call."

    def __init__(self, names: tuple[str, ...]) -> None:
        """The agent's."""
        self.parameters = schema.of({"name": _one_of(names)}, None)

    async def __call__(self, call: ToolContext, /, **arguments: Any) -> str:
        """Its value, or that it has none."""
        schema.check(self.parameters, arguments)
        return await call.line.get_variable(arguments["name"]) or "it is not set"


class SetVariable:
    """`set_variable`, of these names."""

    again = True
    description = "Tell the telephone system something of this call."

    def __init__(self, names: tuple[str, ...]) -> None:
        """The agent's."""
        value = {"type": "string", "description": f"At most {MOST_VALUE} characters"}
        self.parameters = schema.of({"name": _one_of(names), "value": value}, None)

    async def __call__(self, call: ToolContext, /, **arguments: Any) -> str:
        """Set it."""
        schema.check(self.parameters, arguments)
        await call.line.set_variable(arguments["name"], _line(arguments["value"], MOST_VALUE))
        return "set"


def _one_of(names: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


def _line(text: str, most: int) -> str:
    """One line of it, so long at most."""
    return " ".join(str(text).split())[:most].strip()
