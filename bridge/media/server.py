"""The media process: the plane's loop, and the workers' control sockets.

One thread, no event loop: sleep until the next tick in `select` on the control sockets, do what is
due, answer who asked. With few calls the UDP socket wakes it too, so that a packet goes up at once;
with many it is polled each tick, which costs less (measured: half of an event-driven C server).
Nothing that a worker does can hold a tick up: answers that its socket can't take end the
connection.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from bridge import keeper, notify
from bridge.audio.codecs import CODECS, missing
from bridge.errors import MediaError
from bridge.media import control, turn
from bridge.media.clock import now_ms
from bridge.media.downlink import ROOM_OUT
from bridge.media.load import Load
from bridge.media.memory import keep_freed_memory
from bridge.media.plane import Plane
from bridge.media.settings import MediaSettings
from bridge.media.slots import FREE, LATE, OPEN, ORPHAN, SlotMap
from bridge.media.udp import ip_number, make_link, open_socket

log = logging.getLogger(__name__)

EVENT_DRIVEN_CALLS = 8
"""Up to so many calls, each packet wakes the plane."""
_IDLE_S = 0.5
_HOUSEKEEPING_MS = 250.0


@dataclass(eq=False)
class _Worker:
    sock: socket.socket
    number: int
    name: str = ""
    wake: int = -1
    slots: set[int] = field(default_factory=set)


class Server:
    """The process."""

    def __init__(self, settings: MediaSettings) -> None:
        """Bind everything.

        Raises:
            MediaError: a port in use, a directory that can't be written, another media process.
        """
        self._settings = settings
        folder = Path(settings.runtime_dir)
        turn.make_folder(folder)
        control.check_folder(folder)
        self._path = control.socket_path(folder)
        self._listener = _listen(self._path)
        try:
            self._udp = open_socket(settings.listen_address, settings.port)
        except MediaError:
            self._stop_listening()
            raise
        try:
            slots = SlotMap.take_over(
                folder / control.SLOTS, settings.max_calls, settings.playout_ms
            )
        except MediaError:
            self._udp.close()
            self._stop_listening()
            raise
        self.address = (
            settings.advertised_address or settings.listen_address,
            int(self._udp.getsockname()[1]),
        )
        link = make_link(self._udp, slots.calls, ROOM_OUT)
        self._plane = Plane(slots, link, now_ms())
        self._c = slots.columns
        self._workers: dict[int, _Worker] = {}
        self._load = Load()
        self._owner = np.full(slots.calls, -1, np.int64)
        self._next_worker = 0
        self._stopping = False
        self._alone_since = now_ms()
        taken = self._c["state"] != FREE  # a predecessor's: its workers come and hold them again
        self._c["state"][taken], self._c["orphan_ms"][taken] = ORPHAN, now_ms()
        self._nudge, self._nudged = socket.socketpair()
        for end in (self._nudge, self._nudged):
            end.setblocking(False)

    def run(self) -> None:
        """Serve until `stop`."""
        _raise_priority()
        gc.collect()
        gc.freeze()
        log.info("media on %s:%d, control %s", *self.address, self._path)
        notify.ready(f"serves on {self.address[0]}:{self.address[1]}")
        plane, housekeeping = self._plane, now_ms()
        each_ms = (notify.interval_s() or inf) * 1000
        alive = now_ms() + each_ms
        try:
            while not self._stopping:
                waiting: list[Any] = [self._listener, self._nudged]
                waiting += [worker.sock for worker in self._workers.values()]
                timeout = _IDLE_S
                if plane.open_calls:
                    timeout = max(0.0, (plane.grid.next_ms - now_ms()) / 1000)
                    if plane.open_calls <= EVENT_DRIVEN_CALLS:
                        waiting.append(self._udp)
                ready, _, _ = select.select(waiting, [], [], timeout)
                now = now_ms()
                due_ms = plane.grid.next_ms if plane.open_calls else inf
                plane.tick(now)
                self._load.tick(due_ms, now, now_ms())
                self._wake()
                for sock in ready:
                    self._serve(sock)
                if now - housekeeping > _HOUSEKEEPING_MS:
                    housekeeping = now
                    self._make_room(now)
                    if now > alive:
                        notify.alive()
                        alive = now + each_ms
                    for index in plane.overdue(now, self._settings.grace_ms):
                        log.warning("slot %d: nobody came for it; closed", index)
                        self._close(int(index))
        finally:
            self.close()

    def _make_room(self, now: float) -> None:
        """Without a launcher, leave the slots to the next one's media process."""
        folder = self._path.parent
        if not keeper.orphaned() or keeper.holder(folder) is None:
            self._alone_since = now
        elif now - self._alone_since > turn.SUCCESSOR_MS and keeper.somebody_stands_by(folder):
            log.warning("another launcher's media process is there: making room for it")
            self.stop()

    def stop(self) -> None:
        """End `run`; may be called by a signal handler."""
        self._stopping = True
        notify.stopping()
        with contextlib.suppress(BlockingIOError):
            self._nudge.send(b"x")

    def close(self) -> None:
        """Let go of sockets; of the slots too, if nobody can want them any more."""
        left = all(_ended(worker.sock) for worker in self._workers.values())
        if self._stopping and left and not self._plane.open_calls:
            (self._path.parent / control.SLOTS).unlink(missing_ok=True)
        for worker in list(self._workers.values()):
            self._leave(worker)
        self._stop_listening()
        for sock in (self._udp, self._nudge, self._nudged):
            sock.close()

    def _stop_listening(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _wake(self) -> None:
        """Raise the eventfd of every worker that has new frames."""
        fresh = self._plane.up.fresh
        for worker in self._workers.values():
            if worker.wake >= 0 and (fresh & (self._owner == worker.number)).any():
                with contextlib.suppress(BlockingIOError):  # 2^64 frames unread: it knows
                    os.eventfd_write(worker.wake, 1)
        fresh[:] = False

    # Control --------------------------------------------------------------------------------------

    def _serve(self, sock: socket.socket) -> None:
        if sock is self._udp:
            return
        if sock is self._nudged:
            sock.recv(64)
            return
        if sock is self._listener:
            with contextlib.suppress(BlockingIOError):
                accepted, _ = sock.accept()
                accepted.setblocking(False)
                self._next_worker += 1
                self._workers[self._next_worker] = _Worker(accepted, self._next_worker)
            return
        worker = next(w for w in self._workers.values() if w.sock is sock)
        try:
            data, fds, _, _ = socket.recv_fds(sock, control.MOST_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._leave(worker)
            return
        self._request(worker, data, fds)

    def _request(self, worker: _Worker, data: bytes, fds: list[int]) -> None:
        message: dict[str, Any] = {}
        try:
            message = control.decode(data)
            handler = _HANDLERS.get(str(message.get("op")))
            if handler is None:
                raise ValueError("unknown request")
            answer = handler(self, worker, message, fds)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            answer = {"error": "bad", "message": f"bad request: {error!r}"}
            for fd in fds:
                os.close(fd)
        if "id" in message:
            answer["id"] = message["id"]
        try:
            worker.sock.send(control.encode(answer))
        except OSError as error:
            log.warning("worker %s doesn't read its answers (%s); cut off", worker.name, error)
            self._leave(worker)

    def _hello(self, worker: _Worker, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        if abs(message["version"] - control.VERSION) > 1:
            return {
                "error": "version",
                "message": f"media speaks version {control.VERSION}, the worker "
                f"{message['version']}; run the same version of both",
            }
        worker.name = str(message["worker"])
        worker.wake = fds[0]
        for index, generation in message.get("held", ()):  # of a media process that has died
            mine = self._c["owner"][index] == worker.name.encode()
            if mine and self._c["generation"][index] == generation:
                self._own(worker, index)
        return {"address": list(self.address)}

    def _open(self, worker: _Worker, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        host, port = message["remote"]
        codec = str(message["codec"])
        if codec not in CODECS:
            return {"error": "codec", "message": f"codec {codec} is none of {', '.join(CODECS)}"}
        if why := missing(codec):
            return {"error": "codec", "message": why}
        try:
            remote = (ip_number(str(host)), int(port))
        except OSError:
            return {"error": "address", "message": f"{host!r} is no IPv4 address"}
        late = str(message.get("late", LATE[0]))
        if late not in LATE:
            return {"error": "late", "message": f"late is {late!r}; it takes {', '.join(LATE)}"}
        call_id, after = str(message["call_id"]), message.get("after")
        self._forget_stray(call_id)
        for stale in np.flatnonzero(
            (self._c["remote_ip"] == remote[0])
            & (self._c["remote_port"] == remote[1])
            & (self._c["state"] != FREE)
        ):
            # The PBX has given its port to another call (it was restarted, and the old call's end
            # isn't known yet). It has heard the old call's packets there, so ours go on from them.
            reached = self._plane.mute(int(stale))
            after = after or reached
        index = self._plane.open(
            now_ms(),
            call_id,
            remote,
            codec,
            late=LATE.index(late),
            dtx=self._settings.dtx,
            after=(int(after[0]), int(after[1]), int(after[2])) if after else None,
        )
        if index is None:
            return {"error": "full", "message": "all slots are taken"}
        self._own(worker, index)
        return self._slot(index)

    def _forget_stray(self, call_id: str) -> None:
        """A call that begins anew: it went to another host and has come back, or its worker died
        while it was set up. Its old slot is of no use."""
        c = self._c
        for index in np.flatnonzero((c["call_id"] == call_id.encode()) & (c["state"] == ORPHAN)):
            self._close(int(index))

    def _attach(self, worker: _Worker, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Take over a slot: a ring of one's own; what is queued in the old one plays to its end."""
        call_id = str(message["call_id"]).encode()
        found = np.flatnonzero((self._c["call_id"] == call_id) & (self._c["state"] != FREE))
        if not len(found):
            return {"error": "gone", "message": f"no slot of call {message['call_id']}"}
        index = int(found[0])
        self._disown(index)
        self._plane.down.hand_over(index)
        self._own(worker, index)
        return self._slot(index)

    def _close_slot(
        self, worker: _Worker, message: dict[str, Any], fds: list[int]
    ) -> dict[str, Any]:
        index = int(message["index"])
        if index in worker.slots and self._c["generation"][index] == message["generation"]:
            self._close(index)
        return {}

    def _list(self, worker: _Worker, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        taken = np.flatnonzero(self._c["state"] != FREE)
        return {
            "load": self._load.told(),
            "open_calls": self._plane.open_calls,
            "counters": {**self._plane.up.count, "socket_errors": self._plane.link.errors},
            "calls": [
                [self._c["call_id"][i].decode(), self._c["owner"][i].decode()] for i in taken[:500]
            ],
        }

    def _slot(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "generation": int(self._c["generation"][index]),
            "ring": int(self._plane.down.newest_ring(index)),
        }

    def _own(self, worker: _Worker, index: int) -> None:
        worker.slots.add(index)
        self._owner[index] = worker.number
        self._c["owner"][index] = worker.name.encode()
        self._c["state"][index] = OPEN
        self._c["orphan_ms"][index] = np.inf

    def _disown(self, index: int) -> None:
        worker = self._workers.get(int(self._owner[index]))
        if worker is not None:
            worker.slots.discard(index)
        self._owner[index] = -1

    def _close(self, index: int) -> None:
        self._disown(index)
        self._plane.close(index)

    def _leave(self, worker: _Worker) -> None:
        """A worker has gone: its slots live on for their grace."""
        del self._workers[worker.number]
        for index in worker.slots:
            self._owner[index] = -1
            self._c["state"][index] = ORPHAN
            self._c["orphan_ms"][index] = now_ms()
        worker.sock.close()
        if worker.wake >= 0:
            os.close(worker.wake)
        if self._stopping or not worker.name:  # who only asks (`list`) is no worker
            return
        news = control.encode({"op": "left", "worker": worker.name})
        for other in self._workers.values():
            with contextlib.suppress(OSError):  # it will find out by its next request
                other.sock.send(news)


_Handler = Callable[[Server, _Worker, dict[str, Any], list[int]], dict[str, Any]]
_HANDLERS: dict[str, _Handler] = {
    "hello": Server._hello,
    "open": Server._open,
    "attach": Server._attach,
    "close": Server._close_slot,
    "list": Server._list,
}


def serve(
    settings: MediaSettings,
    ready: Callable[[Server], None] | None = None,
    *,
    standby: bool = False,
) -> None:
    """Be the media process until SIGINT or SIGTERM.

    Args:
        settings: the operator's.
        ready: told once everything is bound.
        standby: where another media process serves the directory, wait for its death and take its
            place: everything is loaded then, so calls miss a few packets at most.

    Raises:
        MediaError: it can't start; the message names the cure.
    """
    folder = Path(settings.runtime_dir)
    keep_freed_memory()
    lock = turn.take(folder, (lambda: _rehearse(settings)) if standby else None)
    server = Server(settings)
    hang_up = [signal.SIGHUP] if keeper.has_terminal() else []
    for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
        signal.signal(number, lambda *_: server.stop())
    if ready is not None:
        ready(server)
    try:
        server.run()
    finally:
        os.close(lock)


def _rehearse(settings: MediaSettings) -> None:
    """Do once all that will be needed at once: a call of our own, from us to us."""
    with tempfile.TemporaryDirectory(dir=settings.runtime_dir, prefix="rehearsal-") as folder:
        server = Server(
            replace(settings, runtime_dir=folder, port=0, max_calls=min(64, settings.max_calls))
        )
        host, port = server._udp.getsockname()
        plane, now = server._plane, now_ms()
        index = plane.open(now, "rehearsal", (ip_number(host), port), "PCMU")
        for tick in range(16):
            plane.tick(now + 5.0 * tick)
        if index is not None:
            plane.close(index)
        server.close()
    _raise_priority()
    gc.collect()
    gc.freeze()


def _listen(path: Path) -> socket.socket:
    probe = control.new_socket()
    try:
        probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        path.unlink(missing_ok=True)
    except BlockingIOError:
        raise MediaError(turn.another(path)) from None
    else:
        raise MediaError(turn.another(path))
    finally:
        probe.close()
    listener = control.new_socket()
    try:
        listener.bind(str(path))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise MediaError(
            f"can't listen on {path}: {error.strerror or error}; set another [media] runtime_dir"
        ) from error
    return listener


def _ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _raise_priority() -> None:
    """Ahead of its neighbours where that is allowed.

    Real time, because niceness counts only within a session or control group (sched(7),
    autogroup), and those are the worker's neighbours, not ours. The kernel itself keeps real-time
    processes from taking a whole core.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
