"""A call's audio from WebSocket messages to RTP packets, and back. Pure: time is an argument."""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FRAME_MS: Final = 20
MOST_MS: Final = 60
"""Of a packet; a longer message becomes several."""
GAP_MS: Final = 100.0
"""Nothing came for so long: Asterisk sent nothing (a digit, hold), or the network held it back."""
KEEP: Final = 2
"""Frames that may wait in Asterisk's queue: what jitter there has been, it has stood in for."""
MOST_WAITING: Final = 25
"""With more than that, half a second, the queue is emptied."""
ASK_EVERY: Final = 50
"""Frames: once a second."""

_HEADER = struct.Struct("!BBHII")
HEADER_BYTES: Final = _HEADER.size
_LENGTH = re.compile(rb'queue_length"?\s*:\s*"?(\d+)')


@dataclass(frozen=True, slots=True)
class Form:
    """A codec on both sides."""

    payload_type: int
    bytes_per_ms: int
    swapped: bool = False
    """Little-endian on the WebSocket; RTP has network order (RFC 3551 section 4.5.11)."""

    def turned(self, payload: bytes) -> bytes:
        """The other side's order."""
        if not self.swapped:
            return payload
        samples = array("h", payload[: len(payload) & ~1])
        samples.byteswap()
        return samples.tobytes()


FORMS: dict[str, Form] = {
    "PCMU": Form(0, 8),
    "PCMA": Form(8, 8),
    "G722": Form(9, 8),
    "L16": Form(10, 16, swapped=True),
}
"""Codecs that Asterisk takes back as it sends them, and the media process too; all have an RTP
clock of 8 a ms (G.722 as well: RFC 3551 section 4.5.2)."""


class Upstream:
    """Asterisk's messages as RTP packets."""

    def __init__(self, form: Form, ssrc: int, sequence: int, timestamp: int) -> None:
        """Begin with these numbers."""
        self._form, self._ssrc = form, ssrc
        self._sequence, self._timestamp = sequence, timestamp
        self._last_ms: float | None = None

    def packets(self, now_ms: float, message: bytes, *, alone: bool) -> Iterator[bytes]:
        """The packets of a message.

        Args:
            now_ms: when it came.
            message: audio, usually a frame of the caller's packet size.
            alone: nothing more has come right behind it. Timestamps count samples; only after a
                gap, and where what comes is not what the network had held back (a burst), the time
                that passed is a talkspurt's distance (marker, RFC 3551 section 4.1).
        """
        form = self._form
        begun = self._last_ms is None
        gap_ms = 0.0 if self._last_ms is None else now_ms - self._last_ms
        self._last_ms = now_ms
        marker = begun or (alone and gap_ms > GAP_MS)
        if marker and not begun:
            missing = round((gap_ms - len(message) / form.bytes_per_ms) / FRAME_MS)
            self._timestamp += max(0, missing) * FRAME_MS * 8
        most = MOST_MS * form.bytes_per_ms
        for at in range(0, len(message), most):
            payload = form.turned(message[at : at + most])
            kind = form.payload_type | marker << 7
            yield self._header(kind) + payload
            marker = False
            self._sequence += 1
            self._timestamp += len(payload) * 8 // form.bytes_per_ms

    def _header(self, kind: int) -> bytes:
        return _HEADER.pack(
            0x80, kind, self._sequence & 0xFFFF, self._timestamp & 0xFFFFFFFF, self._ssrc
        )


class Downstream:
    """The media process' packets as messages to Asterisk; keeps Asterisk's queue short.

    Asterisk takes a frame every 20 ms, as the media process sends one: what once piled up there (a
    pause of the network, a faster clock of ours) would delay the agent for the rest of the call.
    So each second its length is asked for. Of what is too much, silent frames are left out as they
    come, which nobody hears; where none came in that second, one frame that isn't; and more than
    half a second at once.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._frames = self._excess = 0
        self._forced = self._shortened = False
        self.left_out = 0
        """Frames."""

    def message(self, packet: bytes) -> bytes | None:
        """What goes to Asterisk for a packet; None: nothing."""
        if len(packet) <= HEADER_BYTES or packet[0] != 0x80:
            return None
        if packet[1] & 0x7F != self._form.payload_type:
            return None
        payload = packet[HEADER_BYTES:]
        self._frames += 1
        if self._excess:
            silent = payload.count(payload[0]) == len(payload)
            if silent or self._forced:
                self._excess, self.left_out = self._excess - 1, self.left_out + 1
                self._forced, self._shortened = False, self._shortened or silent
                return None
        return self._form.turned(payload)

    @property
    def asks(self) -> bool:
        """Whether it is time to ask for the queue's length."""
        if self._frames < ASK_EVERY:
            return False
        self._frames = 0
        return True

    def told(self, length: int) -> bool:
        """So many frames wait in Asterisk. Returns whether they are to be flushed."""
        before, self._excess = self._excess, max(0, length - KEEP)
        self._forced = bool(before and self._excess and not self._shortened)
        self._shortened = False
        if length <= MOST_WAITING:
            return False
        self.left_out += length
        self._excess, self._forced = 0, False
        return True


def queue_length(event: bytes) -> int | None:
    """What a STATUS event of chan_websocket says, in either of its two forms; None: another."""
    found = _LENGTH.search(event)
    return int(found[1]) if found else None


def command(name: str, *, as_json: bool) -> bytes:
    """A command to chan_websocket, as it wants them (`control_message_format`)."""
    return f'{{"command":"{name}"}}'.encode() if as_json else name.encode()
