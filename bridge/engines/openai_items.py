"""What is said in OpenAI's realtime protocol, in its own words: history, tools, errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.types.realtime import ConversationItemParam, RealtimeFunctionToolParam

from bridge.engines.functions import Function
from bridge.engines.prompt import Message


def tool(function: Function) -> RealtimeFunctionToolParam:
    return {
        "type": "function",
        "name": function.name,
        "description": function.description,
        "parameters": dict(function.parameters),
    }


def items(messages: Sequence[Message]) -> list[ConversationItemParam]:
    """The history. Calls get names of our own: what they were called elsewhere may be too long."""
    items: list[ConversationItemParam] = []
    calls: dict[str, str] = {}
    for message in messages:
        match message.role:
            case "user":
                items.append(
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": message.text}],
                    }
                )
            case "system":
                items.append(
                    {
                        "type": "message",
                        "role": "system",
                        "content": [{"type": "input_text", "text": message.text}],
                    }
                )
            case "assistant" if message.text:
                items.append(
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": message.text}],
                    }
                )
            case "tool":
                name = calls.get(message.call_id, "call_0")
                items.append(
                    {"type": "function_call_output", "call_id": name, "output": message.text}
                )
        for call in message.calls:
            calls[call.id] = f"call_{len(calls) + 1}"
            items.append(
                {
                    "type": "function_call",
                    "call_id": calls[call.id],
                    "name": call.name,
                    "arguments": json.dumps(dict(call.arguments), default=str),
                }
            )
    return items


def told(event: dict[str, Any]) -> str:
    error = event.get("error") or {}
    return line(error.get("message") or error.get("code") or "an error without a word")


def message(body: str) -> str:
    """What an HTTP response's body says went wrong, if anything."""
    try:
        return told(json.loads(body))
    except (ValueError, AttributeError):
        return ""


def line(text: object) -> str:
    return " ".join(str(text).split())[:200]
