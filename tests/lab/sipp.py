"""One call by SIPp, a SIP caller that we did not write, with what it received.

SIPp does the signalling; its SDP names a UDP socket of ours as the place for RTP, so that what
Asterisk plays can be judged. For callers that speak, see baresip.py.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.lab.asterisk import Asterisk
from tests.lab.capture import RATE, RtpPacket, decode
from tests.lab.root import free_port, program

_HEADERS = """\
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
      To: <sip:[service]@[remote_ip]:[remote_port]>{tag}
      Call-ID: [call_id]
      CSeq: {number} {method}
      Contact: sip:sipp@[local_ip]:[local_port]
      Max-Forwards: 70
"""
_SDP = """\
      v=0
      o=sipp 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio [rtp_port] RTP/AVP {payload_type}
      a=rtpmap:{payload_type} {name}/8000
"""
_PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8}  # RFC 3551 table 4


@dataclass
class Call:
    """What came of one call."""

    answered: bool = False
    ended_as_expected: bool = False
    """We hung up after the time asked for or, where none was asked for, Asterisk did."""
    seconds: float = 0.0
    packets: list[RtpPacket] = field(default_factory=list)
    said: str = ""
    """SIPp's own last words, where it did not go well."""

    def loudest_hz(self, skip: int = 5) -> float:
        """The strongest frequency of what was received, 0 for silence.

        Args:
            skip: packets at the start to leave out.
        """
        sound = [pcm for packet in self.packets[skip:] if (pcm := decode(packet)) is not None]
        if not sound:
            return 0.0
        wave = np.concatenate(sound).astype(np.float64)
        if np.abs(wave).max() < 100:
            return 0.0
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
        return float(np.argmax(spectrum) * RATE / wave.size)


def call(
    pbx: Asterisk,
    extension: str,
    *,
    hang_up_after_s: float | None = 1.0,
    codec: str = "PCMU",
    timeout_s: float = 30.0,
) -> Call:
    """Call `extension` of `pbx` and wait for the end of the call.

    Args:
        hang_up_after_s: how long to stay after the answer; None waits for Asterisk to hang up.
        codec: `PCMU` or `PCMA`, the only one offered.
        timeout_s: longest the whole may take.
    """
    result = Call()
    with (
        tempfile.TemporaryDirectory(prefix="ari-bridge-sipp-") as directory,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp,
        (Path(directory) / "said").open("w+b") as said,
    ):
        rtp.bind(("127.0.0.1", 0))
        path = Path(directory) / "call.xml"
        path.write_text(scenario(hang_up_after_s, codec))
        began = time.monotonic()
        process = subprocess.Popen(
            [
                *(program("sipp"), f"{pbx.bind}:{pbx.sip_port}", "-sf", path),
                *("-s", extension, "-m", "1", "-nostdin", "-timeout", str(int(timeout_s))),
                *("-timeout_error", "-key", "rtp_port", str(rtp.getsockname()[1])),
                *("-i", "127.0.0.1", "-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM))),
            ],
            cwd=directory,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            while process.poll() is None:
                if time.monotonic() - began > timeout_s + 5:
                    raise TimeoutError(f"SIPp did not end within {timeout_s} s")
                if select.select([rtp], [], [], 0.05)[0]:
                    _receive(rtp, result.packets)
        finally:
            process.kill()
            process.wait()
        result.seconds = time.monotonic() - began
        result.ended_as_expected = process.returncode == 0
        # SIPp may have ended before the command that makes the file did.
        answered = (Path(directory) / "answered").exists()
        result.answered = answered or result.ended_as_expected
        if not result.ended_as_expected:
            said.seek(0)
            result.said = said.read().decode(errors="replace")[-2000:]
    return result


def _receive(rtp: socket.socket, packets: list[RtpPacket]) -> None:
    data = rtp.recv(2048)
    if len(data) < 12 or data[0] != 0x80:  # RFC 3550 section 5.1: version 2, nothing optional
        return
    packets.append(
        RtpPacket(
            at=time.time(),
            port=int(rtp.getsockname()[1]),
            sent=False,
            pt=data[1] & 0x7F,
            marker=bool(data[1] & 0x80),
            seq=int.from_bytes(data[2:4], "big"),
            ts=int.from_bytes(data[4:8], "big"),
            ssrc=int.from_bytes(data[8:12], "big"),
            payload=data[12:],
        )
    )


def request(method: str, number: int, tag: str, body: str = "") -> str:
    """A SIP request of a scenario, with `body` as its SDP; `number` is its CSeq."""
    head = _HEADERS.format(method=method, number=number, tag=tag)
    kind = "      Content-Type: application/sdp\n" if body else ""
    return (
        "  <send{retrans}>\n    <![CDATA[\n\n"
        f"      {method} sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n"
        f"{head}{kind}      Content-Length: [len]\n\n{body}    ]]>\n  </send>\n"
    ).format(retrans="" if method == "ACK" else ' retrans="500"')


def scenario(hang_up_after_s: float | None, codec: str) -> str:
    """SIPp's scenario of one call that offers `codec` and gives its RTP port as `rtp_port`.

    Without `hang_up_after_s` it waits for the other side's BYE.
    """
    sdp = _SDP.format(payload_type=_PAYLOAD_TYPES[codec], name=codec)
    optional = "".join(
        f'  <recv response="{code}" optional="true"/>\n' for code in (100, 180, 181, 182, 183)
    )
    answered = '<action><exec command="touch answered"/></action>'
    if hang_up_after_s is None:
        end = (
            '  <recv request="BYE"/>\n  <send>\n    <![CDATA[\n\n      SIP/2.0 200 OK\n'
            "      [last_Via:]\n      [last_From:]\n      [last_To:]\n      [last_Call-ID:]\n"
            "      [last_CSeq:]\n      Content-Length: 0\n\n    ]]>\n  </send>\n"
        )
    else:
        end = (
            f'  <pause milliseconds="{round(hang_up_after_s * 1000)}"/>\n'
            + request("BYE", 2, "[peer_tag_param]")
            + '  <recv response="200"/>\n'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="one call">\n'
        + request("INVITE", 1, "", sdp)
        + optional
        + f'  <recv response="200">{answered}</recv>\n'
        + request("ACK", 1, "[peer_tag_param]")
        + end
        + "</scenario>\n"
    )
