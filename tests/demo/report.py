"""What `make demo` leaves behind: a table, summary.json, transcript.txt, conversation.wav."""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.demo.judge import Verdict
from tests.demo.script import Script
from tests.lab.capture import RATE, Track

Line = dict[str, str]  # an entry of the transcript stream


@dataclass(frozen=True)
class Goal:
    """One line of the table that a demo must meet."""

    key: str
    text: str
    met: bool


def goals(summary: dict[str, Any], script: Script, *, shipped: bool) -> list[Goal]:
    """What this run was to reach. Another script need not have everything that ours has."""
    turns, delay = summary["turns"], summary["voice_to_voice_ms"]
    stop = summary["barge_in_stop_ms"]
    wanted = [
        Goal("agent_understood", f"= {turns}", summary["agent_understood"] == turns),
        Goal("transcript_in_redis", "true", summary["transcript_in_redis"]),
        Goal("leftover_channels", "0", summary["leftover_channels"] == 0),
    ]
    if "page_agrees" in summary:
        wanted.append(Goal("page_agrees", "true", summary["page_agrees"]))
    if any(turn.say for turn in script.turns):
        fast = bool(delay) and 0 <= delay["p50"] <= 500
        wanted.insert(1, Goal("voice_to_voice_ms", "p50 <= 500", fast))
    if shipped:
        wanted.append(Goal("turns", ">= 6", turns >= 6))
    if any(turn.interrupt_after_ms and not turn.goes_on for turn in script.turns):
        wanted.append(Goal("barge_in_stop_ms", "<= 250", stop is not None and stop <= 250))
    if any(turn.goes_on for turn in script.turns):
        wanted.append(Goal("reversed_barge_ins", ">= 1", summary["reversed_barge_ins"] >= 1))
    if script.kills:
        packet, answer = summary["takeover_packet_gap_ms"], summary["takeover_answer_gap_ms"]
        wanted += [
            Goal("takeover_packet_gap_ms", "<= 60", packet is not None and packet <= 60),
            Goal("takeover_answer_gap_ms", "<= 3500", answer is not None and answer <= 3500),
            Goal("takeover_in_mid_sentence", "true", summary["takeover_in_mid_sentence"]),
            Goal("takeover_said_twice", "nothing", not summary["takeover_said_twice"]),
        ]
    if script.kills and script.greeting:
        wanted.append(Goal("greetings", "= 1", summary["greetings"] == 1))
    if any(turn.expect_extension for turn in script.turns):
        wanted.append(Goal("transfer_reached", "true", summary["transfer_reached"]))
    return wanted


def missing_lines(script: Script, lines: Sequence[Line]) -> list[str]:
    """What of the conversation the stored transcript lacks, in words."""
    count = {role: sum(line["role"] == role for line in lines) for role in ("caller", "agent")}
    turns = [turn for turn in script.turns if not turn.goes_on]  # which is no turn to the bridge
    spoken = sum(bool(turn.say) for turn in turns)
    pressed = "".join(turn.dtmf for turn in script.turns).replace("#", "")
    stored = "".join(line["text"] for line in lines if line["role"] == "dtmf").replace("#", "")
    lacks = []
    if count["caller"] < spoken:
        lacks.append(f"{count['caller']} lines of the caller's for {spoken} spoken turns")
    if count["agent"] < len(turns):
        lacks.append(f"{count['agent']} lines of the agent's for {len(turns)} turns")
    if pressed not in stored:
        lacks.append(f"keys {stored or 'none'} where {pressed} was pressed")
    taken = sum(line["role"] == "event" and line["text"] == "taken over" for line in lines)
    if script.kills and taken != 1:
        lacks.append(f"{taken} takeovers where the worker was killed once")
    if unknown := [line for line in lines if line.get("v") != "1"]:
        lacks.append(f"{len(unknown)} lines of an unknown form")
    return lacks


def table(verdict: Verdict, summary: dict[str, Any], wanted: Sequence[Goal]) -> str:
    """The latencies of each turn, then the summary with its goals."""
    out = [f"{'turn':<22}{'voice to voice':>16}{'barge-in stop':>16}   answer"]
    for n, turn in enumerate(verdict.turns, 1):
        right = "right" if turn.right else f"WRONG, lacks: {', '.join(turn.missing) or 'an answer'}"
        if turn.held_ms is not None:
            right += f", paused for {turn.held_ms:.0f} ms and went on"
        if turn.transferred is not None:
            right += ", transferred"
        elif turn.turn.expect_extension:
            right = f"WRONG: no transfer to {turn.turn.expect_extension} was heard"
        label = f"{n} {turn.turn.label or turn.turn.text}"[:21]
        delays = f"{_ms(turn.voice_to_voice_ms):>16}{_ms(turn.barge_in_stop_ms):>16}"
        out.append(f"{label:<22}{delays}   {right}")
    out.append("")
    of = {goal.key: goal for goal in wanted}
    for key, value in summary.items():
        if key in ("script", "each_turn", "missed"):
            continue
        shown = json.dumps(value) if isinstance(value, (dict, bool)) else str(value)
        goal = of.get(key)
        verdict_text = "" if goal is None else f"{goal.text:<12}{'ok' if goal.met else 'MISSED'}"
        out.append(f"{key:<26}{shown:<34}{verdict_text}".rstrip())
    return "\n".join(out)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def each_turn(verdict: Verdict) -> list[dict[str, Any]]:
    """summary.json's account of every turn."""
    return [
        {
            "label": turn.turn.label,
            "caller": turn.turn.text,
            "heard": turn.heard,
            "right": turn.right,
            "lacks": list(turn.missing),
            "voice_to_voice_ms": _rounded(turn.voice_to_voice_ms),
            "barge_in_stop_ms": _rounded(turn.barge_in_stop_ms),
            "held_ms": _rounded(turn.held_ms),
        }
        for turn in verdict.turns
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def clock(seconds: float) -> str:
    """Minutes and seconds with a tenth: 1:07.3."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def live_line(line: Line, zero: float) -> str:
    """An entry of the stored transcript as one line for people."""
    text = line["text"]
    if line["role"] == "agent" and line.get("heard_ms"):
        cut = ", interrupted" if line.get("cut") == "1" else ""
        text += f"   ({int(line['heard_ms']) / 1000:.1f} s heard{cut})"
    return f"{clock(max(float(line['at']) - zero, 0)):>7}  {line['role']:<7} {text}"


def transcript(verdict: Verdict, lines: Sequence[Line], zero: float) -> str:
    """transcript.txt: what the bridge stored, and what the caller said and really heard."""
    out = ["What the bridge stored in Redis", "", *(live_line(line, zero) for line in lines)]
    out += ["", "", "What the caller said and heard (transcribed from the packets)", ""]
    out.append(f"        agent   {verdict.greeting}")
    for turn in verdict.turns:
        when = clock(turn.caller[0] - zero) if turn.caller else "never"
        out.append(f"{when:>7}  caller  {turn.turn.text}")
        when = clock(turn.agent[0] - zero) if turn.agent else "on" if turn.turn.goes_on else "never"
        out.append(f"{when:>7}  agent   {turn.heard}")
        if turn.transferred is not None:
            out.append(f"{clock(turn.transferred - zero):>7}  event   a human answers")
    return "\n".join(out) + "\n"


def save_stereo(path: Path, sent: Track, received: Track) -> None:
    """conversation.wav: left what the phone sent, right what it received, on one clock."""
    length = min(len(sent.pcm), len(received.pcm))
    both = np.stack([sent.pcm[:length], received.pcm[:length]], axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(both.astype("<i2").tobytes())
