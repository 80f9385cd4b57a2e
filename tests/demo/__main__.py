"""`python -m tests.demo`: place a real call, show it as it happens, and judge it.

    --script FILE   what the caller does (tests/demo/script.toml tells the form)
    --outbound      the agent calls, and the caller is called: else the same
    --phone         stay up instead, for a softphone of yours
    --page          stay up at the end: the call's page is in the dashboard, too
    --loss PERCENT  lose so many of the caller's and the agent's RTP packets, each way
    --jitter MS     delay them by so much on average, each by itself
    --out FOLDER    where the results go (out/demo)

Exit status: 0 when every goal is met, 1 when one is missed, 2 when the demo could not be held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from tests.demo import latency
from tests.demo.caller import Caller
from tests.demo.follow import follow, read_back
from tests.demo.hear import Listener
from tests.demo.judge import Verdict, judge
from tests.demo.page import contents, differences, keep
from tests.demo.picture import Scene, draw
from tests.demo.report import (
    Line,
    clock,
    each_turn,
    goals,
    live_line,
    missing_lines,
    save_stereo,
    table,
    transcript,
)
from tests.demo.script import SHIPPED, Script, ScriptError, load
from tests.demo.voice import clip
from tests.lab.baresip import PhoneError
from tests.lab.capture import RtpPacket, digits, lay_out
from tests.lab.relay import as_played
from tests.lab.root import REPOSITORY, LabError
from tests.lab.speech import Ear
from tests.lab.stack import (
    AGENT_EXTENSION,
    ECHO_EXTENSION,
    HUMAN_EXTENSION,
    Stack,
    calling,
    capture,
)

BEGAN = time.monotonic()
OUTBOUND_AGENT = "demo"
PAGE = "call.html"


def say(line: str = "") -> None:
    """A line for the person who watches, at once."""
    print(line, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Say what takes a while, and how long it took."""
    began = time.monotonic()
    say(f"demo: {text} ...")
    yield
    say(f"demo: {text}: done in {time.monotonic() - began:.1f} s")


@dataclass
class Held:
    """What is left of a call that was held."""

    caller: Caller
    packets: list[RtpPacket]
    zero: float
    answered: float
    ended: float
    setup_s: float
    record: dict[str, str]
    lines: list[Line]
    leftover: list[str]
    load_average: float
    call_id: str
    clock: float
    """What to add to a time of CLOCK_MONOTONIC to have it since the epoch, seconds."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--script", type=Path, default=SHIPPED, metavar="FILE")
    parser.add_argument("--outbound", action="store_true")
    parser.add_argument("--phone", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--loss", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--jitter", type=float, default=0.0, metavar="MS")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="FOLDER")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)  # ends as Ctrl-C does: everything is stopped in turn
    try:
        if options.phone:
            return stay_up()
        network = {"loss": options.loss / 100, "jitter_ms": options.jitter}
        if options.outbound and any(network.values()):
            raise LabError("a bad network stands before a phone that calls: without --outbound")
        return run(
            *(load(options.script), options.script, options.out, network),
            page=options.page,
            outbound=options.outbound,
        )
    except (LabError, PhoneError, ScriptError) as error:
        say(f"demo: {error}")
        return 2
    except KeyboardInterrupt:
        say("demo: stopped")
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# ---- a softphone of the user's -------------------------------------------------------------------


def stay_up() -> int:
    """Keep everything up for a softphone, and show every call, until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        _stay_up(Path(folder))
    return 0


def _stay_up(folder: Path) -> None:
    settings = {"agents": {"folder": str(recorded_agents(folder))}}
    with Stack(say=_progress, browser="person", settings=settings) as stack:
        pbx = stack.pbx
        say()
        say("Talk to the agent from a browser on this machine, without a softphone, and watch it:")
        say(f"  {stack.dashboard}")
        say("  there: Phone, then Call; the browser asks for the microphone. A call that is")
        say("  over has a page with its sound, under History, as long as this demo runs")
        say()
        say("Or register a softphone on this machine:")
        say(f"  server    {pbx.bind}:{pbx.sip_port} (UDP)")
        say("  user      phone")
        say(f"  password  {pbx.phone_password}")
        say(f"or, with TLS and SRTP: server {pbx.bind}:{pbx.tls_port} (TLS), user secure, the same")
        say(f"password; the certificate to trust is {pbx.certificate}")
        say()
        say(f"Then dial  {AGENT_EXTENSION}  the agent (agents/demo.toml)")
        say(f"           {ECHO_EXTENSION}  the bridge's echo")
        say(f"           {HUMAN_EXTENSION}  the human that the agent transfers to")
        say()
        say("Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_show_calls(stack.redis.url, time.time()))


async def _show_calls(url: str, zero: float) -> None:
    async for line in follow(url):
        say(live_line(line, zero))


def _progress(line: str) -> None:
    say(f"demo: {line} ...")


# ---- the scripted call ---------------------------------------------------------------------------


def run(
    script: Script,
    path: Path,
    out: Path,
    network: dict[str, Any],
    *,
    page: bool = False,
    outbound: bool = False,
) -> int:
    """Hold the call of a script, over a network as bad as `Stack` takes it, and judge it.

    `outbound`: the agent calls.
    `page`: leave the dashboard up when all is said, until Ctrl-C.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with step("synthesising the caller's voice"):
        clips = {turn.say: clip(turn.say) for turn in script.turns if turn.say}
    # Who dies needs an heir.
    options = ("--workers", "2") if script.kills else ()
    with contextlib.ExitStack() as up:
        agents = recorded_agents(Path(up.enter_context(tempfile.TemporaryDirectory())))
        network |= {"browser": "person"} if page else {"web": True}
        network["settings"] = {"agents": {"folder": str(agents)}}
        if outbound:
            network["settings"]["outbound"] = calling()["outbound"]
        stack = up.enter_context(Stack(say=_progress, options=options, **network))
        try:
            if script.kills:
                stack.wait_for_workers(2)
            held = asyncio.run(hold(stack, script, clips, out, outbound=outbound))
            versions = {"asterisk_version": stack.pbx.version, "redis_version": stack.redis.version}
            recording = held.record.get("recording", "")
            login = (stack.web_url, stack.web_token)
            keep(*login, held.call_id, recording, out / PAGE)
        finally:
            (out / "bridge.log").write_text(stack.bridge.log())
        if page:
            status = conclude(held, script, path, out, versions, outbound=outbound)
            say()
            say(f"  {stack.dashboard}&to=/call/{quote(held.call_id)}")
            say("shows it in the dashboard, too. Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return status
    return conclude(held, script, path, out, versions, outbound=outbound)


def recorded_agents(folder: Path) -> Path:
    """The agents' folder with a demo agent whose calls are recorded."""
    agents = folder / "agents"
    shutil.copytree(REPOSITORY / "agents", agents)
    with (agents / "demo.toml").open("a") as file:
        file.write('\n[recording]\nenabled = true\nfolder = "../recordings"\n')
    return agents


async def hold(
    stack: Stack, script: Script, clips: dict[str, Any], out: Path, *, outbound: bool
) -> Held:
    """Place the call and talk; returns when it is over and its traces are read."""
    ear = Ear()
    async with stack.phone() as phone:
        with capture(phone, out / "call.pcap", ear.feed) as recording:
            zero = time.time()
            setup_s = _make_setup_s() + time.monotonic() - BEGAN
            say("demo: the agent calls" if outbound else f"demo: dialling {script.dial}")
            say()
            say(
                "   time  who     what   ([..]: the caller; else: as the bridge stores it in Redis)"
            )
            watching = asyncio.create_task(_show_calls(stack.redis.url, zero))
            try:
                if outbound:
                    await asyncio.to_thread(stack.call, phone, OUTBOUND_AGENT)
                    await phone.answer()
                else:
                    await phone.dial(script.dial)
                answered = time.time()
                caller = Caller(
                    phone,
                    ear,
                    script,
                    clips,
                    kill=stack.kill_worker,
                    reached=lambda extension: stack.talks_to(phone) == extension,
                    say=lambda what, text: say(f"{clock(time.time() - zero):>7}  [{what}] {text}"),
                )
                await caller.talk()
                await phone.hangup()
                ended, load_average = time.time(), os.getloadavg()[0]
                call_id, record, lines = await read_back(stack.redis.url)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    say()
    leftover = await asyncio.to_thread(stack.pbx.wait_idle)
    packets = as_played(recording.packets) if stack.relay else recording.packets
    return Held(
        *(caller, packets, zero, answered, ended, setup_s, record, lines, leftover),
        load_average=load_average,
        call_id=call_id,
        clock=time.time() - time.monotonic(),
    )


def _make_setup_s() -> float:
    """How long `make setup` took just before, as it wrote down."""
    noted = REPOSITORY / ".venv" / ".setup_s"
    return float(noted.read_text()) if noted.exists() else 0.0


def conclude(
    held: Held,
    script: Script,
    path: Path,
    out: Path,
    versions: dict[str, str],
    *,
    outbound: bool,
) -> int:
    """Judge the call, write everything down and say how it was."""
    end = max([held.ended, *(p.at for p in held.packets)])
    sent = lay_out(held.packets, sent=True, start=held.zero, end=end)
    received = lay_out(held.packets, sent=False, start=held.zero, end=end)
    pressed = digits(held.packets)
    with step("transcribing what the caller received"):
        listener = Listener()
        verdict = judge(
            *(script, held.caller.marks, sent, received, pressed, listener.texts),
            killed_at=held.caller.killed_at,
        )
        listener.close()
    lacks = missing_lines(script, held.lines)
    page = out / PAGE
    differs = (
        differences(contents(page), verdict, sent, received, pressed) if page.exists() else None
    )
    heard_human = any(turn.transferred is not None for turn in verdict.turns)
    stop = verdict.barge_in_stop()
    summary: dict[str, Any] = {
        "turns": len(verdict.turns),
        "agent_understood": verdict.understood,
        "barge_in_stop_ms": None if stop is None else round(stop, 1),
        "reversed_barge_ins": verdict.reversed,
        "voice_to_voice_ms": verdict.voice_to_voice(),
        **(_takeover(verdict) if script.kills else {}),
        "transfer_reached": heard_human and held.caller.reached_at is not None,
        "transcript_in_redis": not lacks and held.record.get("state") == "ended",
        "leftover_channels": len(held.leftover),
        **({} if differs is None else {"page_agrees": not differs}),
        **versions,
        "setup_s": round(held.setup_s, 1),
        "call_s": round(held.ended - held.answered, 1),
        "greeting_ms": None if verdict.greeting_ms is None else round(verdict.greeting_ms, 1),
        "packet_gap_ms": round(verdict.packet_gap_ms, 1),
        # Both tell a disturbed machine from a slow bridge: a phone alone sends every 20 ms.
        "phone_gap_ms": _longest_gap_ms([p.at for p in held.packets if p.sent]),
        "load_average": round(held.load_average, 1),
        "result": held.record.get("result", ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "script": str(path),
        "each_turn": each_turn(verdict),
    }
    wanted = goals(summary, script, shipped=path.resolve() == SHIPPED)
    summary["missed"] = [goal.key for goal in wanted if not goal.met]
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "transcript.txt").write_text(transcript(verdict, held.lines, held.zero))
    save_stereo(out / "conversation.wav", sent, received)
    with step("drawing the timeline"):
        what = "The agent's call" if outbound else f"A call to {script.dial}"
        title = f"{what}, at the caller's end"
        stages = latency.stages(held.record, verdict, held.clock)
        scene = Scene(
            *(title, _in_short(summary), verdict, sent, received, pressed, held.zero, stages)
        )
        draw(scene, out / "timeline.png")
    say()
    say(table(verdict, summary, wanted))
    say()
    if verdict.greeting_missing:
        say(f"the greeting lacks: {', '.join(verdict.greeting_missing)}")
    for lack in lacks:
        say(f"the transcript in Redis lacks something: {lack}")
    for difference in differs or ():
        say(f"the page and the timeline don't show the same: {difference}")
    for thing in held.leftover:
        say(f"left over in Asterisk: {thing}")
    for name in sorted(p.name for p in out.iterdir()):
        say(f"  {out / name}")
    missed = summary["missed"]
    say(f"demo: MISSED: {', '.join(missed)}" if missed else "demo: every goal is met")
    if page.exists():
        say()
        say("The call's page: its sound, its words, what was heard and what was cut. Open")
        say(f"  {page.resolve().as_uri()}")
    return 1 if missed else 0


def _takeover(verdict: Verdict) -> dict[str, Any]:
    """What is told of the worker's death."""
    seen = verdict.takeover
    return {
        "takeover_packet_gap_ms": _rounded(seen and seen.packet_gap_ms),
        "takeover_answer_gap_ms": _rounded(seen and seen.answer_gap_ms),
        "takeover_reaction_ms": _rounded(seen and seen.reaction_ms),
        "takeover_in_mid_sentence": seen is not None and seen.in_mid_sentence,
        "takeover_went_on_s": _rounded(seen and seen.went_on_s),
        "takeover_said_twice": seen.said_twice if seen else "",
        "greetings": verdict.greetings,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _longest_gap_ms(times: Sequence[float]) -> float | None:
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return round(max(gaps) * 1000, 1) if gaps else None


def _in_short(summary: dict[str, Any]) -> str:
    delay, stop = summary["voice_to_voice_ms"], summary["barge_in_stop_ms"]
    parts = [f"{summary['agent_understood']} of {summary['turns']} turns right"]
    if delay:
        parts.append(f"voice to voice p50 {delay['p50']:.0f} ms, p95 {delay['p95']:.0f} ms")
    if stop is not None:
        parts.append(f"silent {stop:.0f} ms after an interruption")
    if summary["reversed_barge_ins"]:
        parts.append("went on after “okay”")
    if (gap := summary.get("takeover_packet_gap_ms")) is not None:
        parts.append(f"worker killed: packet gap {gap:.0f} ms")
    parts.append(f"longest packet gap {summary['packet_gap_ms']:.0f} ms")
    parts.append(f"Asterisk {summary['asterisk_version'].split('+')[0]}")
    return "   ·   ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
