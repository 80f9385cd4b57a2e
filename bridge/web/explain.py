"""Calls as text, for people at a terminal. Pure: from the API's JSON to lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

_COLUMNS = ("ID", "STATE", "", "NUMBER", "AGENT", "BEGAN", "LASTED", "RESULT")


def plain(text: object) -> str:
    """A text as it may stand on a terminal: callers choose their names, and a control character
    among them would be obeyed."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def table(calls: Sequence[Json]) -> str:
    """Calls, one a line."""
    rows = [_COLUMNS, *(tuple(map(plain, _row(call))) for call in calls)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(call: Json) -> tuple[str, ...]:
    return (
        str(call["id"]),
        str(call["state"]),
        "to" if call["direction"] == "out" else "from",
        str(call["caller"] or "unknown"),
        str(call["agent"]),
        _clock(call["started"]),
        _lasted(call["seconds"]),
        str(call["result"]),
    )


def whole(call: Json) -> str:
    """One call, with all that is known of it."""
    return "\n".join(map(plain, _whole(call)))


def _whole(call: Json) -> Iterator[str]:
    out = call["direction"] == "out"
    yield f"call {call['id']}: {_what(call)}"
    shown = f", showing {call['caller_id']}" if call["caller_id"] else ""
    yield (
        f"  {'to' if out else 'from'} {call['caller'] or 'unknown'}"
        + (shown if out else f" to {call['dialed']}")
        + f"; agent {call['agent']} ({call['engine'] or 'no engine yet'})"
    )
    answered = f", answered {_clock(call['answered'])}" if call["answered"] else ", not answered"
    yield f"  began {_day(call['started'])}{answered}; lasted {_lasted(call['seconds'])}"
    yield f"  codec {call['codec'] or '-'}; worker {call['worker']}"
    if call["variables"]:
        yield "  variables: " + "  ".join(call["variables"])
    if call["audio"]:
        yield "  audio: " + _pairs(call["audio"])
    yield ""
    for line in call["transcript"]:
        yield _said(line)
    turns = [t for t in call["latency"] if isinstance(t, Mapping)]
    if turns:
        yield ""
        yield "where the time of each turn went, ms:"
        for turn in turns:
            yield "  " + _pairs(turn)


def _what(call: Json) -> str:
    if call["state"] != "ended":
        return str(call["state"])
    return f"{call['result'] or 'ended'}" + (f" ({call['reason']})" if call["reason"] else "")


def _said(line: Json) -> str:
    text = f"  {_clock(line['at'])}  {line['role']:<7} {line['text']}"
    if line["cut"]:
        text += "  [cut short]"
    if line["heard_ms"] is not None:
        text += f"  ({line['heard_ms'] / 1000:.1f} s heard)"
    return text


def _pairs(values: Json) -> str:
    return "  ".join(
        f"{name} {_pairs(value) if isinstance(value, Mapping) else value}"
        for name, value in values.items()
        if value not in (None, "", [], {})
    )


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _lasted(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
