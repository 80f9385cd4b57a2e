"""The relay process: connects calls' audio as workers ask it to.

One event loop. A worker asks over a Unix socket in the runtime directory, one connection a request,
one line of JSON each way:

    {"pbx": name, "connection": id, "codec": …, "to": [host, port], "port": 0}
    {"address": [host, port]}        or  {"error": kind, "message": …}

One serves, another stands by, loaded: a lock in the directory says whose turn it is, and the kernel
lets go of it when its holder dies. A relay whose launcher was killed makes room for the next one's
without a caller noticing: it takes no more calls, and ends with the last one that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import signal
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from bridge import keeper, notify
from bridge.errors import MediaError, PbxError, PbxGone, PbxUnreachable
from bridge.pbx import certificate
from bridge.pbx.settings import AsteriskSettings
from bridge.relay.client import SOCKET
from bridge.relay.flow import Flow, media_socket, open_flow
from bridge.relay.stream import FORMS

log = logging.getLogger(__name__)

_LOCK: Final = "relay.lock"
_LOOK_S: Final = 0.5
_MOST_LINE: Final = 4096
# Asterisk's HTTP listens with a backlog of 10 (tcptls.c), which ARI shares.
_AT_ONCE: Final = 6


class Server:
    """The process. `run` until `stop`."""

    def __init__(self, asterisks: Iterable[AsteriskSettings], runtime: Path) -> None:
        """Serve workers of `runtime`. Raises `PbxRefused`: a `ca_file` can't be read."""
        self._runtime = runtime
        self._settings = {one.name: one for one in asterisks}
        self._tls: dict[str, ssl.SSLContext] = {}
        for one in self._settings.values():
            if one.media_transport == "websocket":
                self._tls[one.name] = certificate.tls(one)
        self._flows: set[Flow] = set()
        self._gates = {name: asyncio.Semaphore(_AT_ONCE) for name in self._tls}
        self._asked = asyncio.Event()
        self._emptied = asyncio.Event()

    def stop(self) -> None:
        """End `run`."""
        self._asked.set()

    async def run(self, lock: int) -> None:
        """Serve; lets go of `lock` once it serves nobody new any more."""
        path = self._runtime / SOCKET
        path.unlink(missing_ok=True)
        try:
            server = await asyncio.start_unix_server(self._serve, path, limit=_MOST_LINE)
        except OSError as error:
            raise MediaError(
                f"can't listen on {path}: {error.strerror or error}; set another [media] "
                "runtime_dir"
            ) from error
        log.info("relay ready")
        notify.ready("relays")
        async with server:
            left = await self._until_asked()
        path.unlink(missing_ok=True)
        os.close(lock)
        while left and self._flows and not self._asked.is_set():
            self._emptied.clear()
            asked = asyncio.ensure_future(self._asked.wait())
            emptied = asyncio.ensure_future(self._emptied.wait())
            await asyncio.wait({asked, emptied}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            emptied.cancel()
        for flow in list(self._flows):
            flow.close()

    async def _until_asked(self) -> bool:
        """Wait for `stop`, or (True) for another launcher."""
        while True:
            notify.alive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()
                    return False
            if keeper.orphaned() and keeper.holder(self._runtime) is not None:
                log.warning("another launcher's relay is there: making room for it")
                return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if not line:  # it has only looked whether we are there
                return
            answer = await self._answer(line)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError) as error:  # it has gone, or says too much
            log.warning("a worker's request to the relay: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            pbx, codec = str(asked["pbx"]), asked["codec"]
            if codec not in FORMS:
                raise ValueError(f"codec {codec}")
            connection, to = str(asked["connection"]), (str(asked["to"][0]), int(asked["to"][1]))
            settings, context, gate = self._settings[pbx], self._tls[pbx], self._gates[pbx]
            port = int(asked["port"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return {"error": "refused", "message": f"the relay doesn't understand: {error!r}"}
        for flow in [flow for flow in self._flows if flow.address[1] == port]:
            flow.close()  # it hasn't noticed yet that it is over
        try:
            async with asyncio.timeout(settings.media_timeout_s):
                await gate.acquire()
        except TimeoutError:
            return {"error": "unreachable", "message": "Asterisk is slow to take connections"}
        try:
            flow = await open_flow(
                *(settings, context, connection, codec, media_socket(to, port)), self._ended
            )
        except PbxError as error:
            kinds = {PbxGone: "gone", PbxUnreachable: "unreachable"}
            return {"error": kinds.get(type(error), "refused"), "message": str(error)}
        finally:
            gate.release()
        self._flows.add(flow)
        return {"address": list(flow.address)}

    def _ended(self, flow: Flow) -> None:
        self._flows.discard(flow)
        if not self._flows:
            self._emptied.set()
        if flow.refused or flow.down.left_out:
            log.info(
                "audio at port %d: %d frames came too late for Asterisk, %d were left out to keep "
                "its queue short",
                *(flow.address[1], flow.refused, flow.down.left_out),
            )


def serve(asterisks: Iterable[AsteriskSettings], runtime: Path) -> None:
    """Be the relay until SIGINT or SIGTERM; where there is one, stand by for its end first.

    Raises:
        MediaError: the runtime directory can't be written to.
        PbxRefused: a `ca_file` can't be read.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL if keeper.has_terminal() else signal.SIG_IGN)
    try:
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(runtime / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MediaError(
            f"can't write to {runtime}: {error.strerror}; set [media] runtime_dir"
        ) from error
    server = Server(asterisks, runtime)
    gc.collect()
    gc.freeze()
    _take(lock, runtime)  # what takes time is done: somebody's audio may wait
    asyncio.run(_run(server, lock))


def _take(lock: int, runtime: Path) -> None:
    """Wait for our turn."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("spare relay ready")
        notify.ready("stands by")
    else:
        return
    serving = threading.Event()
    threading.Thread(target=_make_room, args=(runtime, serving), daemon=True).start()
    fcntl.flock(lock, fcntl.LOCK_EX)
    serving.set()


def _make_room(runtime: Path, serving: threading.Event) -> None:
    """A spare whose launcher was killed: the next launcher has spares of its own."""
    while not serving.wait(_LOOK_S):
        notify.alive()
        if keeper.orphaned() and keeper.holder(runtime) is not None:
            os._exit(0)


async def _run(server: Server, lock: int) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    with contextlib.suppress(PermissionError):  # as media: nobody of ours is to keep it waiting
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    await server.run(lock)
