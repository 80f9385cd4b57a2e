"""A worker's connection to the media process: opens, takes over and gives back slots.

Only that goes over the control socket; audio goes through the shared map, both ways
(`bridge.media.handle`, `bridge.media.frames`). Where the media process dies, its successor serves
the same map, and the connection goes on with it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import ResamplerBank
from bridge.dialog.flow import Flow, Pour
from bridge.errors import MediaError, MediaFull, MediaUnreachable
from bridge.media import control
from bridge.media.frames import Frames, Lane, Tap
from bridge.media.handle import Slot
from bridge.media.memory import keep_freed_memory
from bridge.media.player import Player, flush_all, pour
from bridge.media.slots import FREE, LATE, ORPHAN, SlotMap

log = logging.getLogger(__name__)

_ANSWER_S = 5.0
SUCCESSOR_S = 3.0
"""How long a media process may be away before its calls are given up."""


def full(calls: int) -> MediaFull:
    """What is raised when no slot is free."""
    return MediaFull(f"all {calls} slots are taken; raise max_calls")


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
        self._downward: dict[tuple[int, int], ResamplerBank] = {}
        self._dirty: list[Player] = []
        self._pour: Pour = self._pour_all  # one object for all
        self._frames = Frames(slots)
        self._frames.later = asyncio.get_running_loop().call_soon

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
        return self._take(call_id, await self._ask_again(request), rate)

    def check_room(self, call_id: str) -> None:
        """See `bridge.media.base.Media`."""
        taken = bool((self.slots.columns["state"] != FREE).all())
        if taken and call_id not in self.orphans():  # its own of before, which it would get
            raise full(self.slots.calls)

    @property
    def runtime_dir(self) -> Path:
        """What is shared by the processes that look after this host's slots."""
        return self._folder

    def tap(self, tap: Tap) -> None:
        """Have somebody hear all calls together, besides their own listeners."""
        self._frames.tap = tap

    async def attach(
        self, call_id: str, rate: int, since_ms: int = -1, answered_ms: int = -1
    ) -> Slot:
        """Take over the slot of a call whose worker is gone, or is to be.

        What that worker had queued plays to its end first, unless it is cleared. Raises
        `MediaError` if there is no such slot.
        """
        answer = await self._ask_again({"op": "attach", "call_id": call_id})
        slot = self._take(call_id, answer, rate)
        self._frames.go_on(slot.lane, since_ms, answered_ms)
        slot.inherit()
        return slot

    async def give_up(self, call_id: str) -> None:
        """Free the slot of a call that is over and whose worker is gone, if there is one."""
        if call_id in self.orphans():
            slot = await self.attach(call_id, 0)
            await slot.close()

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

    async def close(self) -> None:
        """End the connection; slots left open live on for their grace."""
        if not self._closed:
            self._closed = True
            if self._returning is not None:
                self._returning.cancel()
            self._drop(None)

    def _take(self, call_id: str, answer: dict[str, Any], rate: int) -> Slot:
        lane = self._frames.open(answer["index"], rate)
        player = self._player(lane, answer["ring"])
        slot = Slot(
            *(call_id, answer["generation"], self.slots, self._frames, lane, player),
            release=self._release,
        )
        self._open[slot.index] = slot
        return slot

    async def _release(self, slot: Slot) -> None:
        """Close one slot."""
        if self._open.get(slot.index) is not slot:
            return
        del self._open[slot.index]
        self._frames.close(slot.lane)
        slot.flow.end()
        if self.lost.done() or self._closed:
            return
        try:
            if not self._away:
                close = {"op": "close", "index": slot.index, "generation": slot.generation}
                await self._ask(close)
                return
        except MediaUnreachable:
            if not self._away:
                raise
        self._unclosed.append(slot)  # the successor is told

    def _player(self, lane: Lane, ring: int) -> Player:
        """A player whose audio is resampled together with that of all the others."""
        line = int(self.slots.columns["down_rate"][lane.index])
        bank = None
        if lane.rate != line * 1000:
            kind = (lane.rate, line)
            if kind not in self._downward:
                self._downward[kind] = ResamplerBank(lane.rate, line * 1000, self.slots.calls)
            bank = self._downward[kind]
        pour, later = self._pour, self._played
        return Player(self.slots, lane.index, ring, lane.rate, later, bank, pour)

    def _played(self, player: Player, wait_s: float = 0.0) -> None:
        """A player has audio: publish it, with all that comes in this round of the loop, or in that
        after so long."""
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._waited, player)
            return
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(player)

    def _pour_all(self, flows: Sequence[Flow], pcm: NDArray[np.int16]) -> None:
        """Publish what flows, (k, n), at once."""
        players: list[Player] = [flow.to for flow in flows]
        rows = np.array([player.index for player in players])
        pour(players, rows, pcm)
        rates = np.array([player.rate for player in players])
        self._frames.flowed(rows, pcm.shape[1] * 1000 / rates)

    def _waited(self, player: Player) -> None:
        slot = self._open.get(player.index)
        if slot is not None and slot.plays(player):  # else it is another call's slot by now
            self._played(player)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        flush_all(dirty)

    def _read_frames(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        self._frames.read()

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
            # Not `wait_for`: before 3.12 it swallows a cancellation that comes with the answer.
            async with asyncio.timeout(_ANSWER_S):
                reply: dict[str, Any] = await answer
        except (OSError, TimeoutError) as error:
            raise MediaUnreachable(
                f"the media process doesn't answer ({error or 'timeout'}); see its log"
            ) from error
        finally:
            self._answers.pop(number, None)
        if "error" in reply:
            if reply["error"] == "full":
                raise full(self.slots.calls)
            raise MediaError(str(reply["message"]))
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
