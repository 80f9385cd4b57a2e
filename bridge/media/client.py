"""A worker's handle on the media process: slots, and the audio in them.

Only opening and closing a slot goes over the control socket. Audio goes through the shared map:
media raises one eventfd a tick when any of our slots has new frames, and all of them are read,
resampled and handed out in one go, a few numpy operations for any number of calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import BY_NUMBER
from bridge.audio.echo import ECHO as OURS
from bridge.audio.echo import likeness
from bridge.audio.resample import ResamplerBank
from bridge.audio.speech import thresholds
from bridge.errors import MediaError, MediaFull, MediaUnreachable
from bridge.media import control
from bridge.media.base import Left, Up
from bridge.media.inherited import Inherited
from bridge.media.memory import keep_freed_memory
from bridge.media.player import Player, flush_all
from bridge.media.slots import CONCEALED, DROPPED, ECHO, FRAME_MS, LATE, ORPHAN, SPEECH, SlotMap
from bridge.rtp.quality import Quality, judge

log = logging.getLogger(__name__)

_ANSWER_S = 5.0
SUCCESSOR_S = 3.0
"""How long a media process may be away before its calls are given up."""
_AGAIN_FRAMES = 20
"""A new owner of a slot hears so much again: speech that had begun and wasn't noted yet. Too little
to make a turn of what was answered: a turn ends with more silence."""
_KEEP_FRAMES = 4
"""Frames at a ring's end that media may be writing while we read."""
_TRIPS_AT = 2
"""Frames of speech that trip a reflex."""
_LOUDEST_DB = -3.0
"""No echo comes back louder than that."""
_ONSET, _DELAYS = 8, 16
"""Frames of caller audio that are compared with what was played, and of delay looked at."""


class Slot:
    """One call's audio; see `bridge.media.base.Slot`."""

    def __init__(
        self, client: MediaClient, call_id: str, index: int, generation: int, ring: int, rate: int
    ) -> None:
        """Use `MediaClient.open` or `attach`."""
        self.call_id, self.index, self.rate = call_id, index, rate
        self.generation = generation
        self._client = client
        self._columns = client.slots.columns
        self._player = client.player(index, ring, rate)
        self.play, self.done = self._player.play, self._player.done
        self._cleared_once = False
        self.heard = self._player.heard
        self._inherited: Inherited | None = None
        self.left: tuple[Left, ...] = ()

    @property
    def on_frames(self) -> Callable[[Up], None] | None:
        """Called on the event loop whenever frames have come."""
        return self._client.listener(self)

    @on_frames.setter
    def on_frames(self, listener: Callable[[Up], None] | None) -> None:
        self._client.listen(self, listener)

    def inherit(self) -> None:
        """Look after what the former owner left in its ring."""
        self._player.forget_items()  # of whoever had this ring two owners ago
        self._inherited = Inherited(self._client.slots, self.index, 1 - self._player.ring)
        self.left = self._inherited.items
        self.resume()  # whatever he was waiting for
        self.deal()

    def heard_items(self) -> dict[int, int]:
        """Samples that went out, of every item for which that has changed since the last time."""
        told = self._player.heard_items()
        return told if self._inherited is None else {**self._inherited.heard_items(), **told}

    def pause(self) -> None:
        """Hold what is queued, of a former owner's too."""
        self._columns["play_pause"][self.index] = True

    def resume(self) -> None:
        """Go on."""
        self._columns["play_pause"][self.index] = False

    def tune(self, sensitivity: float) -> None:
        """Set the speech detector's sensitivity, 0 to 1."""
        c, i = self._columns, self.index
        c["s_above_db"][i], c["s_least_db"][i] = thresholds(sensitivity)

    def arm(self, on: bool) -> None:
        """Let agent audio pause by itself, or not, when the caller makes himself heard."""
        self._columns["reflex"][self.index] = _TRIPS_AT if on else 0

    @property
    def tripped(self) -> bool:
        """Whether it has done so and `deal` wasn't called yet."""
        c, i = self._columns, self.index
        return bool(c["reflex_count"][i] != c["reflex_done"][i])

    def deal(self) -> None:
        """The trip is dealt with: from here on `pause` and `resume` rule."""
        c, i = self._columns, self.index
        c["reflex_done"][i] = c["reflex_count"][i]

    def is_echo(self) -> bool:
        """Whether the caller's last 160 ms are what was played in the half second before.

        If so, media won't be tripped again by an echo as loud as that.
        """
        c, i = self._columns, self.index
        line = int(c["t_rate"][i])
        if line != int(c["down_rate"][i]):
            return False  # the two directions can't be compared
        up, down = self._client.slots.up[line][i], self._client.slots.play[line][i]
        ring = int(c["ring"][i])
        head = int(c["t_head"][i]) // (line * FRAME_MS)
        read = int(c["play_read"][i, ring])
        heard = up[(head + np.arange(-_ONSET, 0)) % len(up)].reshape(-1)
        played = down[ring, (read + np.arange(-_ONSET - _DELAYS, 0)) % down.shape[1]].reshape(-1)
        found, louder_db = likeness(heard, played)
        if found < OURS or louder_db > _LOUDEST_DB:
            return False
        c["reflex_echo_db"][i] = max(float(c["reflex_echo_db"][i]), louder_db)
        return True

    def clear(self) -> None:
        """Drop what is not played yet, of a former owner's too."""
        self._cleared_once = True
        self._player.clear()

    @property
    def cleared(self) -> bool:
        """Whether the last `clear` was carried out: what was heard is final."""
        gone = self._inherited is None or self._inherited.over
        return self._player.cleared and (gone or not self._cleared_once)

    @property
    def playing(self) -> bool:
        """Whether the next packet carries agent audio."""
        return self._player.playing or self.queued_ms > 0

    @property
    def queued_ms(self) -> int:
        """Agent audio that waits to be played."""
        before = self._inherited.queued_ms if self._inherited is not None else 0
        return before + self._player.queued_ms

    @property
    def numbers(self) -> tuple[int, int, int]:
        """SSRC, sequence number and timestamp of the next packet to the PBX."""
        c, i = self._columns, self.index
        return int(c["out_ssrc"][i]), int(c["out_seq"][i]), int(c["out_ts"][i])

    def stats(self) -> dict[str, float]:
        """Counters of the call so far: packets by what became of them, ms concealed, queue."""
        c, i = self._columns, self.index
        counters = {name[2:]: float(c[name][i]) for name in c if name.startswith("n_")}
        counters["gap_wait_ms"] = float(c["d_wait_ms"][i])
        counters["queued_ms"] = self.queued_ms
        quality = self.quality()
        counters["loss_percent"], counters["mos"] = quality.loss_percent, quality.mos
        counters["late_ms_p50"], counters["late_ms_p95"], counters["late_ms_p99"] = quality.late_ms
        return counters

    def quality(self) -> Quality:
        """How good the incoming audio is so far."""
        c, i = self._columns, self.index
        return judge(
            float(c["n_received"][i]),
            float(max(c["n_lost"][i], 0)),
            float(c["n_concealed_ms"][i]),
            c["q_late"][i],
            BY_NUMBER[int(c["codec"][i])],
        )

    async def close(self) -> None:
        """Give the slot back; idempotent."""
        await self._client.release(self)


class MediaClient:
    """The connection to the media process. Make one with `connect`."""

    def __init__(self, sock: socket.socket, wake: int, slots: SlotMap) -> None:
        """Use `connect`."""
        self.slots = slots
        self.address: tuple[str, int] = ("", 0)
        self.place = slots.place
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the media process is gone and no successor has come within `SUCCESSOR_S`."""
        self.on_left: Callable[[str], None] = lambda worker: None
        """Told of a worker of this host whose connection has ended."""
        self._folder, self._worker, self._successor_s = Path(), "", SUCCESSOR_S
        self._returning: asyncio.Task[None] | None = None
        self._sock, self._wake = sock, wake
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._open: dict[int, Slot] = {}
        self._unclosed: list[Slot] = []
        self._closed = self._away = self._dropped = False
        self._upward: dict[tuple[int, int], ResamplerBank] = {}
        self._downward: dict[tuple[int, int], ResamplerBank] = {}
        self._dirty: list[Player] = []
        self._index: NDArray[np.intp] = np.zeros(0, np.intp)
        self._cursor = np.zeros(slots.calls, np.int64)
        self._groups: list[tuple[int, int, NDArray[np.intp]]] = []
        self._listeners: list[Callable[[Up], None] | None] = [None] * slots.calls
        self._listening = np.zeros(slots.calls, bool)

    @classmethod
    async def connect(
        cls, runtime_dir: Path, worker: str, successor_s: float = SUCCESSOR_S
    ) -> MediaClient:
        """Connect under a worker's name.

        `successor_s`: how long calls wait for another media process when this one has died.

        Raises:
            MediaUnreachable: no media process serves this directory.
            MediaError: it is of another version, or others may write to the directory.
        """
        keep_freed_memory()
        path = control.socket_path(runtime_dir)
        if runtime_dir.exists():
            control.check_folder(runtime_dir)
        sock = control.new_socket()
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            sock.connect(str(path))
            slots = SlotMap.attach(runtime_dir / control.SLOTS)
        except OSError as error:
            sock.close()
            os.close(wake)
            raise MediaUnreachable(
                f"no media process at {path}: start `ari-bridge media`, "
                "with the same [media] runtime_dir as the worker"
            ) from error
        except MediaError:
            sock.close()
            os.close(wake)
            raise
        client = cls(sock, wake, slots)
        client._folder, client._worker, client._successor_s = runtime_dir, worker, successor_s
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, client._read_answers)
        loop.add_reader(wake, client._read_frames)
        try:
            await client._hello()
        except MediaError:
            await client.close()
            raise
        return client

    async def _hello(self) -> None:
        held = [[slot.index, slot.generation] for slot in (*self._open.values(), *self._unclosed)]
        hello = {"op": "hello", "worker": self._worker, "version": control.VERSION, "held": held}
        answer = await self._ask(hello, [self._wake])
        self.address = (str(answer["address"][0]), int(answer["address"][1]))

    async def _return(self) -> None:
        """The media process has died: go on with its successor, which serves the same slots."""
        until = asyncio.get_running_loop().time() + self._successor_s
        while asyncio.get_running_loop().time() < until:
            sock = control.new_socket()
            try:
                sock.connect(str(control.socket_path(self._folder)))
                if not self.slots.same(self._folder / control.SLOTS):
                    sock.close()
                    break
            except OSError:
                sock.close()
                await asyncio.sleep(0.02)
                continue
            self._sock, self._away = sock, False
            asyncio.get_running_loop().add_reader(sock, self._read_answers)
            try:
                await self._hello()
            except MediaError:
                if self._away or self._sock is not sock:
                    return  # it was the dying one's socket: another return has begun
                break
            log.warning("the media process has a successor; calls go on")
            unclosed, self._unclosed = self._unclosed, []
            for slot in unclosed:
                await self._ask({"op": "close", "index": slot.index, "generation": slot.generation})
            return
        self._drop(MediaUnreachable("the media process ended"))

    async def open(
        self,
        call_id: str,
        remote: tuple[str, int],
        codec: str,
        rate: int,
        *,
        late: str = LATE[0],
        after: tuple[int, int, int] | None = None,
    ) -> Slot:
        """A slot for a call; see `bridge.media.base.Media`.

        Args:
            call_id: names the call.
            remote: the only address that may speak for it.
            codec: what is spoken with the PBX.
            rate: sample rate of the frames both ways, Hz; 0: the line's own.
            late: what stands in for lost packets: `resynthesize`, `replay`, `silence`, or `drop`
                (no frame comes, and `Up.at_ms` goes on all the same).
            after: `Slot.numbers` of another slot that this call had, where it goes on from there.
        """
        request: dict[str, Any] = {
            "op": "open",
            "call_id": call_id,
            "remote": list(remote),
            "codec": codec,
            "late": late,
            "after": after,
        }
        return self._take(call_id, await self._ask_again(request), rate, from_start=True)

    async def attach(self, call_id: str, rate: int, since_ms: int = -1) -> Slot:
        """Take over the slot of a call whose worker is gone, or is to be.

        What that worker had queued plays to its end first, unless it is cleared. Raises
        `MediaError` if there is no such slot.
        """
        answer = await self._ask_again({"op": "attach", "call_id": call_id})
        slot = self._take(call_id, answer, rate, from_start=False)
        self._cursor[slot.index] = self._unread(slot.index, since_ms)
        slot.inherit()
        return slot

    def orphans(self) -> dict[str, str]:
        """Calls whose worker is gone and whose slots live on: their former owners, by call id."""
        c = self.slots.columns
        return {
            c["call_id"][i].decode(): c["owner"][i].decode()
            for i in np.flatnonzero(c["state"] == ORPHAN)
        }

    async def counters(self) -> dict[str, int]:
        """What became of datagrams that belong to no call, by cause."""
        answer: dict[str, int] = (await self._ask({"op": "list"}))["counters"]
        return answer

    async def release(self, slot: Slot) -> None:
        """Close one slot."""
        if self._open.get(slot.index) is not slot:
            return
        self.listen(slot, None)
        del self._open[slot.index]
        self._regroup()
        if self._away:
            self._unclosed.append(slot)  # the successor is told
        elif not self.lost.done() and not self._closed:
            await self._ask({"op": "close", "index": slot.index, "generation": slot.generation})

    async def close(self) -> None:
        """End the connection; slots left open live on for their grace."""
        if not self._closed:
            self._closed = True
            if self._returning is not None:
                self._returning.cancel()
            self._drop(None)

    def player(self, index: int, ring: int, rate: int) -> Player:
        """A player whose audio is resampled together with that of all the others."""
        line = int(self.slots.columns["down_rate"][index])
        bank = None
        if rate != line * 1000:
            kind = (rate, line)
            if kind not in self._downward:
                self._downward[kind] = ResamplerBank(rate, line * 1000, self.slots.calls)
            bank = self._downward[kind]
        return Player(self.slots, index, ring, rate, self._played, bank)

    def _played(self, player: Player) -> None:
        """A player has audio: publish it, with all that comes in this round of the loop."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(player)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        flush_all(dirty)

    # Frames ---------------------------------------------------------------------------------------

    def _take(self, call_id: str, answer: dict[str, Any], rate: int, *, from_start: bool) -> Slot:
        line = int(self.slots.columns["t_rate"][answer["index"]])
        rate = rate or line * 1000
        slot = Slot(self, call_id, answer["index"], answer["generation"], answer["ring"], rate)
        head = int(self.slots.columns["t_head"][slot.index]) // (line * FRAME_MS)
        self._cursor[slot.index] = 0 if from_start else head
        if rate != line * 1000:
            if (line, rate) not in self._upward:
                self._upward[line, rate] = ResamplerBank(line * 1000, rate, self.slots.calls)
            self._upward[line, rate].reset(slot.index)
        self._open[slot.index] = slot
        self._regroup()
        return slot

    def _unread(self, index: int, since_ms: int) -> int:
        """The frame with which a new owner begins."""
        c = self.slots.columns
        line = int(c["t_rate"][index])
        head, read = int(c["t_head"][index]) // (line * FRAME_MS), int(c["up_read"][index])
        if read < 0:
            return head
        begin = read - _AGAIN_FRAMES
        if since_ms >= 0:
            begin = min(begin, since_ms // FRAME_MS - _AGAIN_FRAMES)
        oldest = head - (self.slots.up[line].shape[1] - _KEEP_FRAMES)
        return min(max(begin, oldest, 0), head)

    def _regroup(self) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for slot in self._open.values():
            line = int(self.slots.columns["t_rate"][slot.index])
            groups.setdefault((line, slot.rate), []).append(slot.index)
        self._groups = [(*kind, np.array(rows, np.intp)) for kind, rows in groups.items()]

    def _read_frames(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        for line, rate, rows in self._groups:
            head = self.slots.columns["t_head"][rows] // (line * FRAME_MS)
            ring = self.slots.up[line].shape[1]
            oldest = head - (ring - _KEEP_FRAMES)
            cursor = np.maximum(self._cursor[rows], oldest)
            fresh = head - cursor
            for count in np.flatnonzero(np.bincount(fresh)[1:]) + 1:
                some = fresh == count
                self._hand_up(line, rate, rows[some], cursor[some], int(count))

    def _hand_up(
        self, line: int, rate: int, rows: NDArray[np.intp], cursor: NDArray[np.int64], count: int
    ) -> None:
        """Read `count` frames of each slot of `rows`, and call their listeners."""
        listening = self._listening[rows]
        if not listening.all():  # frames wait in the ring until somebody listens
            rows, cursor = rows[listening], cursor[listening]
            if not len(rows):
                return
        frames = self.slots.up[line]
        at = (cursor[:, None] + np.arange(count)) % frames.shape[1]
        pcm = frames[rows[:, None], at].reshape(len(rows), -1)
        flags = self.slots.columns["up_flags"][rows[:, None], at]
        self._cursor[rows] = self.slots.columns["up_read"][rows] = cursor + count
        if rate != line * 1000:
            pcm = self._upward[line, rate].process(rows, pcm)
        raw = flags.tobytes()
        told = [_told(raw[i : i + count]) for i in range(0, len(raw), count)]
        made = map(Up, (cursor * FRAME_MS).tolist(), pcm, *zip(*told, strict=True))
        ups: Iterable[tuple[int, Up]] = zip(rows.tolist(), made, strict=True)
        if (dropped := flags & DROPPED != 0).any():
            ups = _without(ups, dropped)
        listeners = self._listeners
        for row, up in ups:
            listener = listeners[row]
            if listener is None:
                continue  # closed by a listener before it in this very round
            try:
                listener(up)
            except Exception as error:  # noqa: BLE001 - one call's fault must not silence the others
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a call's listener failed", "exception": error}
                )

    def listen(self, slot: Slot, listener: Callable[[Up], None] | None) -> None:
        """Who gets a slot's frames, unless it is closed."""
        if self._open.get(slot.index) is slot:
            self._listeners[slot.index] = listener
            self._listening[slot.index] = listener is not None

    def listener(self, slot: Slot) -> Callable[[Up], None] | None:
        """Who gets a slot's frames."""
        return self._listeners[slot.index] if self._open.get(slot.index) is slot else None

    # Control --------------------------------------------------------------------------------------

    async def _ask_again(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask; where the media process dies meanwhile, its successor, who has the same slots."""
        for again in (True, False):
            if self._returning is not None:
                await asyncio.wait({self._returning})
            try:
                return await self._ask(request)
            except MediaUnreachable:
                if not (again and self._away):
                    raise
        raise AssertionError("not reached")

    async def _ask(self, request: dict[str, Any], fds: list[int] | None = None) -> dict[str, Any]:
        if self.lost.done() or self._closed or self._away:
            raise MediaUnreachable("the media process is gone; start `ari-bridge media` again")
        number = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            data = control.encode({**request, "id": number})
            try:
                socket.send_fds(self._sock, [data], fds or [])
            except (BrokenPipeError, ConnectionResetError):
                self._gone_away()  # before its end was read
                raise
            reply: dict[str, Any] = await asyncio.wait_for(answer, _ANSWER_S)
        except (OSError, TimeoutError) as error:
            raise MediaUnreachable(
                f"the media process doesn't answer ({error or 'timeout'}); see its log"
            ) from error
        finally:
            self._answers.pop(number, None)
        if "error" in reply:
            kind = MediaFull if reply["error"] == "full" else MediaError
            raise kind(str(reply["message"]))
        return reply

    def _read_answers(self) -> None:
        while True:
            try:
                data = self._sock.recv(control.MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._gone_away()
                return
            reply = control.decode(data)
            if reply.get("op") == "left":
                self.on_left(str(reply["worker"]))
                continue
            answer = self._answers.get(int(reply.get("id", 0)))
            if answer is not None and not answer.done():
                answer.set_result(reply)

    def _gone_away(self) -> None:
        """The socket has ended: slots and eventfd stay for the successor."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        self._away = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(MediaUnreachable("the media process ended"))
        if not self._closed:
            self._returning = asyncio.create_task(self._return())

    def _drop(self, error: MediaUnreachable | None) -> None:
        if self._dropped:
            return
        self._dropped = True
        loop = asyncio.get_running_loop()
        if self._sock.fileno() >= 0:
            loop.remove_reader(self._sock)
            self._sock.close()
        loop.remove_reader(self._wake)
        os.close(self._wake)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error or MediaUnreachable("the connection was closed"))
        if not self.lost.done():
            self.lost.set_result(None)


@lru_cache(maxsize=4096)
def _told(flags: bytes) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Of so many frames: which hold speech, which are concealed."""
    speech = tuple(f & (SPEECH | ECHO) == SPEECH for f in flags)
    return speech, tuple(f & CONCEALED != 0 for f in flags)


def _without(ups: Iterable[tuple[int, Up]], dropped: NDArray[np.bool_]) -> Iterator[tuple[int, Up]]:
    """Frames one by one, but those that the agent wants dropped, (rows, frames)."""
    for (row, up), gone in zip(ups, dropped, strict=True):
        if not gone.any():
            yield row, up
            continue
        frames = up.pcm.reshape(len(gone), -1)
        for i in np.flatnonzero(~gone).tolist():
            at_ms = up.at_ms + i * FRAME_MS
            yield row, Up(at_ms, frames[i], up.speech[i : i + 1], up.concealed[i : i + 1])
