"""Many SIPp calls at once, whose RTP comes to sockets of ours and is captured on its way.

SIPp does the signalling; every call's SDP names a port of ours (a CSV file), from where the caller
also presses keys (RFC 4733).
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.asterisk import Asterisk
from tests.lab.root import free_port, free_range, program

_EVENT = 101
_SCENARIO = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="drill">
  <send retrans="500"><![CDATA[

      INVITE sip:[field1]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[pid]x[call_number]
      To: <sip:[field1]@[remote_ip]:[remote_port]>
      Call-ID: [call_id]
      CSeq: 1 INVITE
      Contact: sip:[field0]@[local_ip]:[local_port]
      Max-Forwards: 70
      Content-Type: application/sdp
      Content-Length: [len]

      v=0
      o=sipp 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio [field0] RTP/AVP 0 101
      a=rtpmap:0 PCMU/8000
      a=rtpmap:101 telephone-event/8000
      a=fmtp:101 0-15

  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200"/>
  <send><![CDATA[

      ACK sip:[field1]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[pid]x[call_number]
      To: <sip:[field1]@[remote_ip]:[remote_port]>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 1 ACK
      Contact: sip:[field0]@[local_ip]:[local_port]
      Max-Forwards: 70
      Content-Length: 0

  ]]></send>
  <pause milliseconds="{ms}"/>
  <send retrans="500"><![CDATA[

      BYE sip:[field1]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[pid]x[call_number]
      To: <sip:[field1]@[remote_ip]:[remote_port]>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 2 BYE
      Contact: sip:[field0]@[local_ip]:[local_port]
      Max-Forwards: 70
      Content-Length: 0

  ]]></send>
  <recv response="200"/>
</scenario>
"""


class Callers:
    """`count` calls for `seconds`, to `extensions` in turn. A context manager: calls begin at once.

    `ports[n]` is call n's RTP port; `capture` them with the range `ports`.
    """

    def __init__(self, pbx: Asterisk, extensions: list[str], count: int, seconds: float) -> None:
        first = free_range(2 * count, socket.SOCK_DGRAM)
        self.ports = range(first, first + 2 * count)
        self._pbx, self._extensions, self._count, self._seconds = pbx, extensions, count, seconds
        self._sockets: list[socket.socket] = []
        self._peers: dict[int, tuple[str, int]] = {}

    def port(self, n: int) -> int:
        """Call n's RTP port."""
        return self.ports[2 * n]

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="ari-bridge-drill-")
        folder = Path(self._folder.name)
        for n in range(self._count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", self.port(n)))
            sock.setblocking(False)
            self._sockets.append(sock)
        rows = [
            f"{self.port(n)};{self._extensions[n % len(self._extensions)]};"
            for n in range(self._count)
        ]
        (folder / "calls.csv").write_text("\n".join(["SEQUENTIAL", *rows]) + "\n")
        (folder / "call.xml").write_text(_SCENARIO.replace("{ms}", str(int(self._seconds * 1000))))
        self._process = subprocess.Popen(
            [
                *(program("sipp"), f"{self._pbx.bind}:{self._pbx.sip_port}"),
                *("-sf", folder / "call.xml", "-inf", folder / "calls.csv", "-nostdin"),
                *("-m", str(self._count), "-r", str(self._count), "-rp", "1000"),
                *("-i", "127.0.0.1", "-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM))),
                *("-timeout", str(int(self._seconds + 20)), "-trace_stat", "-stf", folder / "stat"),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for sock in self._sockets:
            sock.close()
        self._folder.cleanup()

    def drain(self) -> int:
        """Take what has come, so that we know where from; how many calls have got RTP so far."""
        for n, sock in enumerate(self._sockets):
            try:
                while True:
                    _, self._peers[n] = sock.recvfrom(2048)
            except BlockingIOError:
                pass
        return len(self._peers)

    def press(self, n: int, key: int) -> None:
        """Press a key for 60 ms (RFC 4733 section 2.5: the end is sent three times)."""
        ssrc, ts, seq = secrets.randbits(32), secrets.randbits(31), secrets.randbits(15)
        for number, (end, length) in enumerate([(0, 160), (0, 320), (1, 480), (1, 480), (1, 480)]):
            marker = 0x80 if number == 0 else 0
            header = struct.pack(">BBHII", 0x80, marker | _EVENT, seq + number, ts, ssrc)
            event = struct.pack(">BBH", key, end << 7 | 10, length)
            self._sockets[n].sendto(header + event, self._peers[n])
            time.sleep(0.002)

    def finished(self, timeout_s: float) -> bool:
        """Wait for SIPp's end; whether every call ended as the callers wanted."""
        until = time.monotonic() + timeout_s
        while self._process.poll() is None and time.monotonic() < until:
            self.drain()
            time.sleep(0.02)
        return self._process.poll() == 0
