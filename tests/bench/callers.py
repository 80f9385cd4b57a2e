"""Callers of a bench: SIPp's calls through the real Asterisk, with our generator's audio.

SIPp's SDP sends Asterisk's RTP to the generator, one loopback address a call, and it notes the port
that Asterisk answers with: so the callers' audio is ours, and every packet's time is known.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench.generator import address
from tests.bench.verify import NotVerifiedError
from tests.lab.asterisk import Asterisk
from tests.lab.root import LabError, free_port, program
from tests.lab.sipp import request

SET_UP_S = 20.0


def wait(done: Callable[[], bool], what: str) -> None:
    """Return when it is done. Raises `NotVerifiedError` if that takes too long."""
    deadline = time.monotonic() + SET_UP_S
    while not done():
        if time.monotonic() > deadline:
            raise NotVerifiedError(f"waited {SET_UP_S:.0f} s for {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def callers(
    pbx: Asterisk, rtp_port: int, folder: Path, extensions: Sequence[str], seconds: float
) -> Iterator[list[int]]:
    """All calls up; the RTP ports that Asterisk gave them, in order.

    Args:
        pbx: whom they call.
        rtp_port: the generator's.
        folder: for files that nobody else needs.
        extensions: what each of them dials.
        seconds: how long they talk at least.
    """
    calls = len(extensions)
    (folder / "calls.xml").write_text(_scenario(seconds))
    lines = "\n".join(
        f"{stream};{address(stream)};{extension};" for stream, extension in enumerate(extensions)
    )
    (folder / "calls.csv").write_text(f"SEQUENTIAL\n{lines}\n")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [
                *(str(program("sipp")), f"{pbx.bind}:{pbx.sip_port}", "-sf", "calls.xml"),
                *("-inf", "calls.csv"),
                *("-m", str(calls), "-l", str(calls), "-r", "25", "-nostdin"),
                *("-key", "rtp_port", str(rtp_port), "-i", "127.0.0.1"),
                *("-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM))),
                *("-trace_logs", "-log_file", "ports.log"),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + SET_UP_S
        ports: dict[int, int] = {}
        log = folder / "ports.log"
        while len(ports) < calls:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"SIPp brought {len(ports)} of {calls} calls up")
            time.sleep(0.2)
            text = log.read_text() if log.exists() else ""
            ports = {int(a): int(b) for a, b in re.findall(r"stream (\d+) port (\d+)\n", text)}
        yield [ports[stream] for stream in range(calls)]
    finally:
        process.kill()
        process.wait()


def _scenario(seconds: float) -> str:
    sdp = "".join(
        f"      {line}\n"
        for line in (
            *("v=0", "o=sipp 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 [field1]"),
            *("t=0 0", "m=audio [rtp_port] RTP/AVP 0", "a=rtpmap:0 PCMU/8000"),
        )
    )
    optional = "".join(
        f'  <recv response="{code}" optional="true"/>\n' for code in (100, 180, 181, 182, 183)
    )
    note = (
        '<action><ereg regexp="m=audio ([0-9]+) " search_in="body" check_it="true"'
        ' assign_to="line,port"/><log message="stream [field0] port [$port]"/></action>'
    )
    whole = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="calls">\n'
        + request("INVITE", 1, "", sdp)
        + optional
        + f'  <recv response="200">{note}</recv>\n'
        + request("ACK", 1, "[peer_tag_param]")
        + f'  <pause milliseconds="{round((seconds + SET_UP_S) * 1000)}"/>\n'
        + request("BYE", 2, "[peer_tag_param]")
        + '  <recv response="200"/>\n  <Reference variables="line"/>\n</scenario>\n'
    )
    return whole.replace("[service]", "[field2]")
