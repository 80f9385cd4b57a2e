"""A media process of its own for a test, and a telephone's RTP over a real socket."""

import contextlib
import multiprocessing
import socket
import struct
import tempfile
from pathlib import Path

from bridge.media import turn
from bridge.media.server import serve
from bridge.media.settings import MediaSettings


def _serve(settings, ready):
    serve(settings, lambda server: ready.send(server.address))


@contextlib.contextmanager
def media_process(**settings):
    """Start one on a free port; yields (runtime directory, process)."""
    with tempfile.TemporaryDirectory(prefix="ari-media-") as folder:
        made = MediaSettings(**{"port": 0, "runtime_dir": folder, "max_calls": 32, **settings})
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(made, theirs))
        process.start()
        try:
            assert ours.poll(20), "the media process did not come up"
            ours.recv()
            yield Path(made.runtime_dir), process
        finally:
            process.terminate()
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()


def _stand_by(settings, ready):
    turn.log.info = lambda *words: ready.send(None)  # it says when it is ready
    serve(settings, lambda server: ready.send(None), standby=True)


@contextlib.contextmanager
def successor(folder, **settings):
    """A media process that waits for the turn of the one that serves there, and has rehearsed."""
    made = MediaSettings(port=0, runtime_dir=str(folder), **{"max_calls": 32, **settings})
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_stand_by, args=(made, theirs))
    process.start()
    try:
        assert ours.poll(20), "the spare media process did not get ready"
        yield process
    finally:
        process.kill()
        process.join()


class Phone:
    """Sends and receives RTP of one call, the way Asterisk's external media does."""

    def __init__(self, payload_type=0, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.payload_type = payload_type
        self.seq, self.ts, self.ssrc = 1000, 50_000, 0x1234

    def packet(self, payload, step=160, marker=False):
        kind = self.payload_type | (0x80 if marker else 0)
        header = struct.pack(">BBHII", 0x80, kind, self.seq & 0xFFFF, self.ts, self.ssrc)
        self.seq += 1
        self.ts = (self.ts + step) & 0xFFFFFFFF
        return header + payload

    def send(self, to, payload, step=160):
        self.socket.sendto(self.packet(payload, step), to)

    def received(self):
        """Everything that has come: (marker, payload type, seq, ts, ssrc, payload)."""
        out = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self.socket.recv(4096)
                _, kind, seq, ts, ssrc = struct.unpack(">BBHII", data[:12])
                out.append((kind >> 7, kind & 0x7F, seq, ts, ssrc, data[12:]))
        return out

    def close(self):
        self.socket.close()
