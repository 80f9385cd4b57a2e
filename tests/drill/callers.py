"""Many SIPp calls at once, whose RTP comes to sockets of ours and is captured on its way.

SIPp does the signalling; every call's SDP names a port of ours (a CSV file), and a log line of its
tells where the PBX wants the audio. From the answer on the caller sends there what a phone sends: a
packet every 20 ms, silence or a word that was spoken, and keys in the same stream (RFC 4733).
`pump` does all of that, and listens meanwhile: a caller knows at once which
tone he hears (judged is the capture, afterwards).
"""

from __future__ import annotations

import heapq
import itertools
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.drill.judge import loudest, power, samples
from tests.lab.asterisk import Asterisk
from tests.lab.capture import Capture
from tests.lab.placer import Placer
from tests.lab.root import free_range, program

_EVENT = 101
_STEP_S = 0.005
_FRAME_S = 0.02
_SILENCE = b"\xff" * 160
_REQUEST = """
      {method} sip:[field1]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]x[call_number]
      P-Asserted-Identity: <sip:[field2]@[local_ip]:[local_port]>
      To: <sip:[field1]@[remote_ip]:[remote_port]>{tag}
      Call-ID: [call_id]
      CSeq: {number} {method}
      Contact: sip:sipp@[local_ip]:[local_port]
      Max-Forwards: 70
      Content-Length: {length}
"""
_SCENARIO = f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="drill">
  <send retrans="500"><![CDATA[
{{invite}}      Content-Type: application/sdp

      v=0
      o=sipp 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio [field0] RTP/AVP 0 {_EVENT}
      a=rtpmap:0 PCMU/8000
      a=rtpmap:{_EVENT} telephone-event/8000
      a=fmtp:{_EVENT} 0-15

  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200">
    <action>
      <ereg regexp="m=audio ([0-9]+) " search_in="body" assign_to="line,port"/>
      <log message="[field0] [$port]"/>
    </action>
  </recv>
  <Reference variables="line"/>
  <send><![CDATA[
{{ack}}
  ]]></send>
  <pause milliseconds="{{ms}}"/>
  <send retrans="500"><![CDATA[
{{bye}}
  ]]></send>
  <recv response="200"/>
</scenario>
"""


@dataclass
class _Phone:
    sock: socket.socket
    ssrc: int
    seq: int
    ts: int = 0
    peer: tuple[str, int] | None = None
    up_at: float = 0.0
    first_at: float = 0.0
    hz: int = 0
    key_ts: int = 0
    to_say: list[bytes] = field(default_factory=list)
    tones: list[tuple[int, float]] = field(default_factory=list)  # each, and when it began


class Callers:
    """Calls to `extensions` in turn. A context manager: calls begin at once.

    Args:
        pbx: whom they call.
        extensions: where they call, in turn.
        count: how many calls, and ports of theirs.
        seconds: how long each call lasts.
        rate: new calls per second.
        number: of the first caller; each next one's is one higher.
        clip: µ-law octets of what a caller says who `speak`s.
    """

    def __init__(
        self,
        pbx: Asterisk,
        extensions: list[str],
        count: int,
        seconds: float,
        rate: int = 20,
        number: int = 100_000,
        clip: bytes = b"",
    ) -> None:
        first = free_range(2 * count, socket.SOCK_DGRAM, address=pbx.bind)
        self.ports = range(first, first + 2 * count)
        self.count, self.number, self.seconds = count, number, seconds
        self._begun = count
        self._pbx, self._extensions, self._rate = pbx, extensions, rate
        self._clip = [clip[n : n + 160].ljust(160, b"\xff") for n in range(0, len(clip), 160)]
        self._phones: list[_Phone] = []
        self._due: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._next_frame = time.monotonic()

    def capture(self, path: Path) -> Capture:
        """What these phones are about to send and receive, into `path`."""
        return Capture(path, self.ports, program=str(program("tcpdump")), address=self._pbx.bind)

    def port(self, n: int) -> int:
        """Call n's RTP port."""
        return self.ports[2 * n]

    def __enter__(self) -> Self:
        for n in range(self.count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((self._pbx.bind, self.port(n)))
            sock.setblocking(False)
            ssrc, seq = random.getrandbits(32), random.getrandbits(15)
            self._phones.append(_Phone(sock, ssrc, seq))
        rows = [
            f"{self.port(n)};{self._extensions[n % len(self._extensions)]};{self.number + n};"
            for n in range(self.count)
        ]
        options = "-m", str(self.count), "-r", str(self._rate)
        self._sipp = Placer(self._pbx, rows, self._scenario(), *options).__enter__()
        self.began = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sipp.__exit__(kind, error, trace)
        for phone in self._phones:
            phone.sock.close()

    def _scenario(self) -> str:
        def request(method: str, number: int, tag: str, length: str = "0") -> str:
            return _REQUEST.format(method=method, number=number, tag=tag, length=length)

        return _SCENARIO.format(
            invite=request("INVITE", 1, "", "[len]"),
            ack=request("ACK", 1, "[peer_tag_param]"),
            bye=request("BYE", 2, "[peer_tag_param]"),
            ms=int(self.seconds * 1000),
        )

    # What callers do ------------------------------------------------------------------------------

    def press(self, n: int, key: int, at: float | None = None) -> None:
        """Press a key, at that monotonic time (RFC 4733 section 2.5: the end is sent thrice)."""
        at = time.monotonic() if at is None else at
        for step, (end, length) in enumerate([(0, 160), (0, 320), (1, 480), (1, 480), (1, 480)]):
            event = struct.pack(">BBH", key, end << 7 | 10, length)
            heapq.heappush(
                self._due, (at + step * _STEP_S, next(self._numbers), n, bytes([step]) + event)
            )

    def speak(self, n: int) -> None:
        """Say the clip."""
        self._phones[n].to_say = list(self._clip)

    # What callers hear ----------------------------------------------------------------------------

    def answered(self) -> int:
        """How many calls have got RTP so far."""
        return sum(phone.first_at > 0 for phone in self._phones)

    def answered_at(self, n: int) -> float:
        """When call n got its first RTP, epoch time; 0: not yet."""
        return self._phones[n].first_at

    @property
    def begun(self) -> int:
        """How many calls were placed, of those whose time it is or was."""
        return self._begun

    def heard(self, n: int, hz: int, since: float) -> bool:
        """Whether a tone began in call n after that epoch time."""
        return any(tone == hz and at > since for tone, at in self._phones[n].tones)

    # The clock ------------------------------------------------------------------------------------

    def pump(self, seconds: float) -> None:
        """Do all that is due for so long."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            self._pick_up()
            self._listen()
            self._send_frames(now)
            self._send_keys(now)
            time.sleep(_STEP_S)

    def finished(self, timeout_s: float) -> bool:
        """Wait until all calls are over; whether every one ended as its caller wanted."""
        until = time.monotonic() + timeout_s
        while not self._sipp.done and time.monotonic() < until:
            self.pump(0.05)
        return self._sipp.status == 0

    def stop(self) -> None:
        """Place no more calls."""
        self._begun = min(self.count, int((time.time() - self.began) * self._rate) - 1)
        self._sipp.stop()

    def hang_up(self) -> None:
        """Every caller hangs up now."""
        for _ in range(2):  # the first asks SIPp to begin no more calls, the second to end all
            self._sipp.stop()
            self.pump(0.1)

    def _pick_up(self) -> None:
        """Who was answered, and where he has to send."""
        for line in self._sipp.lines():
            port, *peer = map(int, line.split())
            phone = self._phones[(port - self.ports.start) // 2]
            if peer:
                phone.peer, phone.up_at = (self._pbx.bind, peer[0]), time.time()

    def _listen(self) -> None:
        who: list[_Phone] = []
        payloads: list[bytes] = []
        now = time.time()
        for phone in self._phones:
            try:
                while True:
                    data, phone.peer = phone.sock.recvfrom(2048)
                    phone.first_at = phone.first_at or now
                    phone.up_at = phone.up_at or now
                    who.append(phone)
                    payloads.append(data[12:])
            except BlockingIOError:
                pass
        for phone, hz in zip(who, loudest(power(samples(payloads))).tolist(), strict=True):
            if hz and hz != phone.hz:
                phone.tones.append((hz, now))
            phone.hz = hz

    def _send_frames(self, now: float) -> None:
        while self._next_frame <= now:
            self._next_frame += _FRAME_S
            if now - self._next_frame > 0.2:  # we were held up
                self._next_frame = now
            over = time.time() - self.seconds  # the port may be another call's by now
            for phone in self._phones:
                phone.ts += 160
                if phone.peer is not None and phone.up_at > over:
                    said = phone.to_say.pop(0) if phone.to_say else _SILENCE
                    self._send(phone, 0, phone.ts, said)

    def _send_keys(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, n, data = heapq.heappop(self._due)
            phone = self._phones[n]
            if data[0] == 0:
                phone.key_ts = phone.ts  # all packets of a key carry the time of its beginning
            if phone.peer is not None:
                marker = 0x80 if data[0] == 0 else 0
                self._send(phone, marker | _EVENT, phone.key_ts, data[1:])

    def _send(self, phone: _Phone, kind: int, ts: int, payload: bytes) -> None:
        assert phone.peer is not None
        header = struct.pack(">BBHII", 0x80, kind, phone.seq & 0xFFFF, ts & 0xFFFFFFFF, phone.ssrc)
        phone.seq += 1
        phone.sock.sendto(header + payload, phone.peer)
